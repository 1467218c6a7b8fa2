-- The log, by day: what is too old is dropped as a whole. The table there was becomes the first partition, as it is.
ALTER TABLE "events" RENAME TO "events_first";--> statement-breakpoint
ALTER TABLE "events_first" DROP CONSTRAINT "events_project_id_projects_id_fk";--> statement-breakpoint
ALTER TABLE "events_first" DROP CONSTRAINT "events_pkey";--> statement-breakpoint
ALTER INDEX "events_run" RENAME TO "events_first_run";--> statement-breakpoint
ALTER TABLE "events_first" ADD COLUMN "first_seq" bigint;--> statement-breakpoint
CREATE TABLE "events" (
	"project_id" uuid NOT NULL,
	"seq" bigint NOT NULL,
	"run_id" uuid,
	"at" timestamp (3) with time zone NOT NULL,
	"chunk" json NOT NULL,
	"first_seq" bigint,
	CONSTRAINT "events_pkey" PRIMARY KEY("project_id","seq","at")
) PARTITION BY RANGE ("at");--> statement-breakpoint
CREATE INDEX "events_run" ON "events" USING btree ("run_id") WHERE run_id is not null;--> statement-breakpoint
CREATE TABLE "events_default" PARTITION OF "events" DEFAULT;--> statement-breakpoint
DO $$
DECLARE
	today timestamp := date_trunc('day', now() AT TIME ZONE 'utc');
BEGIN
	EXECUTE format('ALTER TABLE events ATTACH PARTITION events_first FOR VALUES FROM (MINVALUE) TO (%L)',
		to_char(today + interval '1 day', 'YYYY-MM-DD') || ' 00:00:00+00');
	FOR n IN 1..3 LOOP
		EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
			to_char(today + n * interval '1 day', '"events_"YYYYMMDD'),
			to_char(today + n * interval '1 day', 'YYYY-MM-DD') || ' 00:00:00+00',
			to_char(today + (n + 1) * interval '1 day', 'YYYY-MM-DD') || ' 00:00:00+00');
	END LOOP;
END $$;--> statement-breakpoint
-- A foreign key would look up the project for every entry of the hot path; entries are written under its row's lock.
CREATE FUNCTION "delete_project_events"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM events WHERE project_id = OLD.id;
	RETURN NULL;
END $$;--> statement-breakpoint
CREATE TRIGGER "projects_delete_events" AFTER DELETE ON "projects" FOR EACH ROW EXECUTE FUNCTION "delete_project_events"();--> statement-breakpoint
ALTER TABLE "runs" ADD COLUMN "compacted" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "runs_uncompacted" ON "runs" USING btree ("finished_at") WHERE not compacted and finished_at is not null;--> statement-breakpoint
-- Which database the log was last seen in: in another one, or on another timeline, it may have gone backwards.
ALTER TABLE "log_epoch" ADD COLUMN "identity" text;
