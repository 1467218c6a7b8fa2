ALTER TABLE "runs" ADD COLUMN "alias" text;--> statement-breakpoint
ALTER TABLE "runs" ADD COLUMN "accepted_seq" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE UNIQUE INDEX "runs_alias" ON "runs" USING btree ("alias","project_id") WHERE alias is not null;
