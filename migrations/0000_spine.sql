CREATE TABLE "client_sessions" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" uuid NOT NULL,
	"token_hash" "bytea" NOT NULL,
	"delivery" text NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "events" (
	"project_id" uuid NOT NULL,
	"seq" bigint NOT NULL,
	"run_id" uuid,
	"at" timestamp (3) with time zone NOT NULL,
	"chunk" json NOT NULL,
	CONSTRAINT "events_pkey" PRIMARY KEY("project_id","seq")
);
--> statement-breakpoint
CREATE TABLE "idempotency_keys" (
	"user_id" uuid NOT NULL,
	"route" text NOT NULL,
	"key" text NOT NULL,
	"body_hash" "bytea" NOT NULL,
	"status" integer,
	"headers" jsonb,
	"body" text,
	"locked_until" timestamp (3) with time zone NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "idempotency_keys_pkey" PRIMARY KEY("user_id","route","key")
);
--> statement-breakpoint
CREATE TABLE "log_epoch" (
	"one" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"epoch" text NOT NULL,
	CONSTRAINT "log_epoch_one" CHECK ("log_epoch"."one")
);
--> statement-breakpoint
CREATE TABLE "projects" (
	"id" uuid PRIMARY KEY NOT NULL,
	"user_id" uuid NOT NULL,
	"name" text NOT NULL,
	"language" text NOT NULL,
	"session_id" text,
	"task_id" text,
	"session_generation" integer DEFAULT 0 NOT NULL,
	"last_seq" bigint DEFAULT 0 NOT NULL,
	"revision" integer DEFAULT 0 NOT NULL,
	"fingerprint" text,
	"timeline" jsonb,
	"media" jsonb DEFAULT '[]'::jsonb NOT NULL,
	"summary" text,
	"exportable" boolean DEFAULT false NOT NULL,
	"state_fetched_at" timestamp (3) with time zone,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"last_activity_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"deleted_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "render_attempts" (
	"render_id" uuid NOT NULL,
	"number" integer NOT NULL,
	"upstream_id" text NOT NULL,
	"session_id" text NOT NULL,
	"delivery" text NOT NULL,
	"unknown_reads" integer DEFAULT 0 NOT NULL,
	"outcome" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"ended_at" timestamp (3) with time zone,
	CONSTRAINT "render_attempts_pkey" PRIMARY KEY("render_id","number")
);
--> statement-breakpoint
CREATE TABLE "renders" (
	"id" uuid PRIMARY KEY NOT NULL,
	"project_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"platform" text NOT NULL,
	"request_key" text,
	"state" text NOT NULL,
	"progress" integer DEFAULT 0 NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"format" text NOT NULL,
	"quality" text NOT NULL,
	"revision" integer NOT NULL,
	"draft" text,
	"problem" jsonb,
	"file_url" text,
	"file_bytes" bigint,
	"duration_ms" integer,
	"cancel_requested_at" timestamp (3) with time zone,
	"polls" integer DEFAULT 0 NOT NULL,
	"next_poll_at" timestamp (3) with time zone,
	"lease" uuid,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"submitted_at" timestamp (3) with time zone,
	"completed_at" timestamp (3) with time zone,
	CONSTRAINT "renders_ended" CHECK ((state in ('completed', 'failed', 'cancelled')) = (next_poll_at is null))
);
--> statement-breakpoint
CREATE TABLE "runs" (
	"id" uuid PRIMARY KEY NOT NULL,
	"project_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"platform" text NOT NULL,
	"request_key" text,
	"text" text NOT NULL,
	"state" text NOT NULL,
	"delivery" text DEFAULT 'not_sent' NOT NULL,
	"attempt" integer DEFAULT 0 NOT NULL,
	"log_writes" integer DEFAULT 0 NOT NULL,
	"reply" text,
	"summary" text,
	"outcome" text,
	"problem" jsonb,
	"stop_requested_at" timestamp (3) with time zone,
	"settled" boolean DEFAULT true NOT NULL,
	"baseline" jsonb,
	"open_message_id" text,
	"unchanged_reads" integer DEFAULT 0 NOT NULL,
	"last_read" text,
	"next_read_at" timestamp (3) with time zone,
	"credits_before" integer,
	"credits_after" integer,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"started_at" timestamp (3) with time zone,
	"finished_at" timestamp (3) with time zone
);
--> statement-breakpoint
CREATE TABLE "schema_compatibility" (
	"one" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"requires" integer NOT NULL,
	CONSTRAINT "schema_compatibility_one" CHECK ("schema_compatibility"."one")
);
--> statement-breakpoint
CREATE TABLE "tickets" (
	"ticket_hash" "bytea" PRIMARY KEY NOT NULL,
	"session_id" uuid NOT NULL,
	"expires_at" timestamp (3) with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "uploads" (
	"id" uuid PRIMARY KEY NOT NULL,
	"project_id" uuid NOT NULL,
	"user_id" uuid NOT NULL,
	"state" text NOT NULL,
	"filename" text NOT NULL,
	"media_type" text,
	"bytes" bigint,
	"bytes_forwarded" bigint DEFAULT 0 NOT NULL,
	"media" jsonb,
	"problem" jsonb,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "upstream_accounts" (
	"user_id" uuid PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"client_id" uuid NOT NULL,
	"sealed_token" text,
	"token_expires_at" timestamp (3) with time zone,
	"generation" integer DEFAULT 0 NOT NULL,
	"upstream_user_id" text,
	"state" text DEFAULT 'none' NOT NULL,
	"retry_at" timestamp (3) with time zone,
	"minting_until" timestamp (3) with time zone,
	"mints" integer DEFAULT 0 NOT NULL,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "users" (
	"id" uuid PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"language" text NOT NULL,
	"email" text,
	"created_at" timestamp (3) with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "client_sessions" ADD CONSTRAINT "client_sessions_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "events" ADD CONSTRAINT "events_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "projects" ADD CONSTRAINT "projects_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "render_attempts" ADD CONSTRAINT "render_attempts_render_id_renders_id_fk" FOREIGN KEY ("render_id") REFERENCES "public"."renders"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "renders" ADD CONSTRAINT "renders_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "runs" ADD CONSTRAINT "runs_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "tickets" ADD CONSTRAINT "tickets_session_id_client_sessions_id_fk" FOREIGN KEY ("session_id") REFERENCES "public"."client_sessions"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "uploads" ADD CONSTRAINT "uploads_project_id_projects_id_fk" FOREIGN KEY ("project_id") REFERENCES "public"."projects"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "upstream_accounts" ADD CONSTRAINT "upstream_accounts_user_id_users_id_fk" FOREIGN KEY ("user_id") REFERENCES "public"."users"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
CREATE UNIQUE INDEX "client_sessions_token_hash" ON "client_sessions" USING btree ("token_hash");--> statement-breakpoint
CREATE INDEX "client_sessions_user" ON "client_sessions" USING btree ("user_id");--> statement-breakpoint
CREATE INDEX "client_sessions_expires" ON "client_sessions" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "events_run" ON "events" USING btree ("run_id") WHERE run_id is not null;--> statement-breakpoint
CREATE INDEX "idempotency_keys_created" ON "idempotency_keys" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX "projects_user" ON "projects" USING btree ("user_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "render_attempts_upstream_id" ON "render_attempts" USING btree ("upstream_id");--> statement-breakpoint
CREATE INDEX "renders_user" ON "renders" USING btree ("user_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "renders_request_key" ON "renders" USING btree ("user_id","request_key");--> statement-breakpoint
CREATE INDEX "renders_project" ON "renders" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "renders_due" ON "renders" USING btree ("next_poll_at") WHERE next_poll_at is not null;--> statement-breakpoint
CREATE INDEX "runs_project" ON "runs" USING btree ("project_id","id");--> statement-breakpoint
CREATE UNIQUE INDEX "runs_request_key" ON "runs" USING btree ("user_id","request_key");--> statement-breakpoint
CREATE INDEX "runs_active" ON "runs" USING btree ("project_id") WHERE state in ('queued', 'running', 'reconciling');--> statement-breakpoint
CREATE INDEX "uploads_project" ON "uploads" USING btree ("project_id","id");--> statement-breakpoint
CREATE INDEX "uploads_unfinished" ON "uploads" USING btree ("updated_at") WHERE state in ('receiving', 'forwarding');--> statement-breakpoint
INSERT INTO "schema_compatibility" ("requires") VALUES (1);
--> statement-breakpoint
INSERT INTO "log_epoch" ("epoch") VALUES (substr(md5(random()::text || clock_timestamp()::text), 1, 8));
