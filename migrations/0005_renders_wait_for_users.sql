ALTER TABLE "renders" ADD COLUMN "needs_user_since" timestamp (3) with time zone;--> statement-breakpoint
ALTER TABLE "renders" ADD COLUMN "follow_until" timestamp (3) with time zone;
