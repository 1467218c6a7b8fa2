-- A guest who joins an account that has an upstream account of its own keeps the projects in the guest's.
ALTER TABLE "projects" ADD COLUMN "account_user_id" uuid REFERENCES "users" ("id");--> statement-breakpoint
CREATE INDEX "projects_account_user" ON "projects" ("account_user_id") WHERE "account_user_id" IS NOT NULL;
