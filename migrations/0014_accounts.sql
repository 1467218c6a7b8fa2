-- A user may have several accounts upstream: one serves them, and a project stays in the one that made its session.
ALTER TABLE "upstream_accounts" ADD COLUMN "id" uuid DEFAULT gen_random_uuid() NOT NULL;--> statement-breakpoint
ALTER TABLE "upstream_accounts" ADD COLUMN "serves" boolean DEFAULT true NOT NULL;--> statement-breakpoint
UPDATE "upstream_accounts" SET "id" = "user_id";--> statement-breakpoint
ALTER TABLE "upstream_accounts" DROP CONSTRAINT "upstream_accounts_pkey";--> statement-breakpoint
ALTER TABLE "upstream_accounts" ADD PRIMARY KEY ("id");--> statement-breakpoint
-- What was kept aside of a linked user's guest account becomes a row of its own.
INSERT INTO "upstream_accounts" ("user_id", "serves", "kind", "client_id", "sealed_token", "token_expires_at", "generation", "upstream_user_id", "state", "mints", "created_at")
SELECT "user_id", false, 'anonymous', "client_id", "guest_sealed_token", "guest_token_expires_at", "generation", "upstream_user_id", 'ready', "mints", "created_at"
FROM "upstream_accounts" WHERE "kind" = 'linked' AND "guest_sealed_token" IS NOT NULL;--> statement-breakpoint
UPDATE "upstream_accounts" SET "upstream_user_id" = NULL WHERE "kind" = 'linked';--> statement-breakpoint
ALTER TABLE "upstream_accounts" DROP COLUMN "guest_sealed_token";--> statement-breakpoint
ALTER TABLE "upstream_accounts" DROP COLUMN "guest_token_expires_at";--> statement-breakpoint
CREATE UNIQUE INDEX "upstream_accounts_serving" ON "upstream_accounts" ("user_id") WHERE "serves";--> statement-breakpoint
CREATE INDEX "upstream_accounts_user" ON "upstream_accounts" ("user_id");--> statement-breakpoint
ALTER TABLE "projects" ADD COLUMN "account_id" uuid;--> statement-breakpoint
UPDATE "projects" SET "account_id" = a."id" FROM "upstream_accounts" a
WHERE a."serves" AND a."user_id" = coalesce("projects"."account_user_id", "projects"."user_id") AND "projects"."session_id" IS NOT NULL;--> statement-breakpoint
ALTER TABLE "projects" ADD CONSTRAINT "projects_account_id_upstream_accounts_id_fk" FOREIGN KEY ("account_id") REFERENCES "upstream_accounts"("id");--> statement-breakpoint
CREATE INDEX "projects_account" ON "projects" ("account_id") WHERE "account_id" IS NOT NULL;--> statement-breakpoint
ALTER TABLE "projects" DROP COLUMN "account_user_id";--> statement-breakpoint
CREATE OR REPLACE VIEW ops.accounts AS
SELECT a.user_id, u.kind AS user_kind, a.kind, a.state, a.sealed_token IS NOT NULL AS has_token,
	a.token_expires_at, a.generation, a.mints, a.retry_at, a.minting_until, a.created_at, a.updated_at, a.id, a.serves
FROM public.upstream_accounts a JOIN public.users u ON u.id = a.user_id;--> statement-breakpoint
COMMENT ON VIEW ops.accounts IS 'Users'' accounts at the backend: a user who has linked one has the guest''s as well';--> statement-breakpoint
COMMENT ON COLUMN ops.accounts.user_id IS 'Whose it is; a user may have several';--> statement-breakpoint
COMMENT ON COLUMN ops.accounts.id IS 'The account; ids grow with time';--> statement-breakpoint
COMMENT ON COLUMN ops.accounts.serves IS 'New projects begin in it; others keep the projects that were made in them';--> statement-breakpoint
-- Before, an account was found by its user alone.
UPDATE "schema_compatibility" SET "requires" = 13;
