-- A second net below the services, which ask for the owner in every statement: as the role reelgate_app a user sees
-- the rows of that user alone. The owner of the tables, as which the workers act, is not bound by it.
ALTER TABLE "projects" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "runs" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "renders" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "render_attempts" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "uploads" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "events" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
-- Without a policy nobody but the owner sees anything.
ALTER TABLE "users" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "client_sessions" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "identities" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "tickets" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
ALTER TABLE "upstream_accounts" ENABLE ROW LEVEL SECURITY;--> statement-breakpoint
CREATE POLICY "own" ON "projects" USING (user_id = nullif(current_setting('reelgate.user_id', true), '')::uuid);--> statement-breakpoint
CREATE POLICY "own" ON "runs" USING (user_id = nullif(current_setting('reelgate.user_id', true), '')::uuid);--> statement-breakpoint
CREATE POLICY "own" ON "renders" USING (user_id = nullif(current_setting('reelgate.user_id', true), '')::uuid);--> statement-breakpoint
CREATE POLICY "own" ON "uploads" USING (user_id = nullif(current_setting('reelgate.user_id', true), '')::uuid);--> statement-breakpoint
CREATE POLICY "own" ON "idempotency_keys" USING (user_id = nullif(current_setting('reelgate.user_id', true), '')::uuid);--> statement-breakpoint
-- Of these two the policies of what they belong to decide.
CREATE POLICY "own" ON "events" USING (project_id in (select id from projects));--> statement-breakpoint
CREATE POLICY "own" ON "render_attempts" USING (render_id in (select id from renders));--> statement-breakpoint
DO $$
BEGIN
	-- Roles belong to the whole cluster: another database of it may have made this one, even at this moment.
	IF to_regrole('reelgate_app') IS NULL THEN
		CREATE ROLE "reelgate_app" NOLOGIN;
	END IF;
EXCEPTION
	WHEN duplicate_object OR unique_violation THEN NULL;
	WHEN insufficient_privilege THEN
		RAISE NOTICE 'The role reelgate_app could not be made; docs/security.md tells how to make it by hand';
END $$;
--> statement-breakpoint
DO $$
BEGIN
	IF to_regrole('reelgate_app') IS NULL THEN RETURN; END IF;
	-- Since Postgres 16 whoever makes a role is a member that may not become it.
	IF NOT pg_has_role(current_user, 'reelgate_app',
		CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END) THEN
		EXECUTE format('GRANT reelgate_app TO %I', current_user);
	END IF;
EXCEPTION
	WHEN insufficient_privilege THEN
		RAISE NOTICE '% may not become reelgate_app; docs/security.md tells how to grant it by hand', current_user;
END $$;
--> statement-breakpoint
DO $$
BEGIN
	IF to_regrole('reelgate_app') IS NULL THEN RETURN; END IF;
	IF NOT has_schema_privilege('reelgate_app', current_schema(), 'USAGE') THEN
		EXECUTE format('GRANT USAGE ON SCHEMA %I TO reelgate_app', current_schema());
	END IF;
	GRANT SELECT ON projects, runs, renders, render_attempts, uploads, events TO reelgate_app;
	GRANT INSERT ON projects TO reelgate_app;
	GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO reelgate_app;
END $$;
