CREATE TABLE "mints" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"user_id" uuid NOT NULL,
	"client_id" uuid NOT NULL,
	"outcome" text NOT NULL,
	"at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE INDEX "mints_at" ON "mints" USING btree ("at");
--> statement-breakpoint
ALTER TABLE "upstream_accounts" ADD COLUMN "guest_sealed_token" text;
--> statement-breakpoint
ALTER TABLE "upstream_accounts" ADD COLUMN "guest_token_expires_at" timestamp (3) with time zone;
--> statement-breakpoint
-- Without a policy nobody but the owner sees anything.
ALTER TABLE "mints" ENABLE ROW LEVEL SECURITY;
