CREATE TABLE "upload_spools" (
	"upload_id" uuid PRIMARY KEY NOT NULL,
	"spool" text NOT NULL,
	"platform" text NOT NULL,
	"declared_type" text NOT NULL,
	"metadata" text NOT NULL,
	"received" bigint DEFAULT 0 NOT NULL,
	"delivery" text DEFAULT 'not_sent' NOT NULL,
	"session_generation" integer,
	"upstream_name" text,
	"expires_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
ALTER TABLE "upload_spools" ADD CONSTRAINT "upload_spools_upload_id_uploads_id_fk" FOREIGN KEY ("upload_id") REFERENCES "public"."uploads"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "upload_spools_spool" ON "upload_spools" USING btree ("spool");--> statement-breakpoint
CREATE INDEX "upload_spools_expires" ON "upload_spools" USING btree ("expires_at");
