-- It names users, and nobody but the owner of the tables has to do with it.
ALTER TABLE "mints" ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE SCHEMA ops;
--> statement-breakpoint
COMMENT ON SCHEMA ops IS 'What operators read: names are stable, nothing in it is a secret or what a user wrote.';
--> statement-breakpoint
CREATE VIEW ops.renders AS
SELECT id, project_id, user_id, platform, state, progress, attempts, polls, format, quality, revision,
	problem ->> 'code' AS problem_code, draft IS NOT NULL AS has_draft, file_bytes, duration_ms,
	cancel_requested_at, next_poll_at, lease IS NOT NULL AS claimed, created_at, submitted_at, completed_at,
	needs_user_since
FROM public.renders;
--> statement-breakpoint
CREATE VIEW ops.render_attempts AS
SELECT render_id, number, delivery, unknown_reads, outcome, created_at, ended_at
FROM public.render_attempts;
--> statement-breakpoint
CREATE VIEW ops.runs AS
SELECT id, project_id, user_id, platform, state, delivery, attempt, outcome, problem ->> 'code' AS problem_code,
	settled, stop_requested_at, unchanged_reads, next_read_at, credits_before, credits_after,
	created_at, started_at, finished_at
FROM public.runs;
--> statement-breakpoint
CREATE VIEW ops.uploads AS
SELECT id, project_id, user_id, state, media_type, bytes, bytes_forwarded, problem ->> 'code' AS problem_code,
	created_at, updated_at
FROM public.uploads;
--> statement-breakpoint
CREATE VIEW ops.accounts AS
SELECT a.user_id, u.kind AS user_kind, a.kind, a.state, a.sealed_token IS NOT NULL AS has_token,
	a.token_expires_at, a.generation, a.mints, a.retry_at, a.minting_until, a.created_at, a.updated_at
FROM public.upstream_accounts a JOIN public.users u ON u.id = a.user_id;
--> statement-breakpoint
CREATE VIEW ops.mint_budget AS
SELECT 10 AS budget,
	count(*) FILTER (WHERE outcome = 'delivered')::integer AS delivered,
	count(*) FILTER (WHERE outcome = 'unknown')::integer AS unknown,
	count(*) FILTER (WHERE outcome = 'refused')::integer AS refused,
	greatest(0, 10 - count(*) FILTER (WHERE outcome <> 'refused'))::integer AS remaining,
	min(at) FILTER (WHERE outcome <> 'refused') + interval '7 days' AS next_freed_at
FROM public.mints
WHERE at > now() - interval '7 days';
--> statement-breakpoint
-- pg-boss makes its schema when the first instance starts, after this migration: a view could not name its tables.
CREATE FUNCTION ops.read_queues() RETURNS TABLE (
	name text, waiting bigint, deferred bigint, active bigint, failed bigint, blocked_keys bigint, oldest_waiting_at timestamptz
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF to_regclass('jobs.queue') IS NULL OR to_regclass('jobs.job') IS NULL THEN
		RETURN;
	END IF;
	RETURN QUERY EXECUTE $query$
		SELECT q.name::text,
			count(j.id) FILTER (WHERE j.state IN ('created', 'retry') AND j.start_after <= now()),
			count(j.id) FILTER (WHERE j.state IN ('created', 'retry') AND j.start_after > now()),
			count(j.id) FILTER (WHERE j.state = 'active'),
			count(j.id) FILTER (WHERE j.state = 'failed'),
			count(DISTINCT j.singleton_key) FILTER (WHERE j.state = 'failed' AND j.policy = 'key_strict_fifo'),
			min(greatest(j.created_on, j.start_after)) FILTER (WHERE j.state IN ('created', 'retry') AND j.start_after <= now())
		FROM jobs.queue q
		LEFT JOIN jobs.job j ON j.name = q.name AND j.state IN ('created', 'retry', 'active', 'failed')
		WHERE q.name NOT LIKE '\_\_pgboss\_\_%'
		GROUP BY q.name
	$query$;
END
$$;
--> statement-breakpoint
COMMENT ON FUNCTION ops.read_queues() IS 'What ops.queues shows; nothing before the first instance has started.';
--> statement-breakpoint
CREATE VIEW ops.queues AS
SELECT name, waiting, deferred, active, failed, blocked_keys, oldest_waiting_at FROM ops.read_queues();
--> statement-breakpoint
COMMENT ON VIEW ops.renders IS 'Exports, each followed to its end';
--> statement-breakpoint
COMMENT ON COLUMN ops.renders.id IS 'The render; ids grow with time';
COMMENT ON COLUMN ops.renders.project_id IS 'The project that is exported';
COMMENT ON COLUMN ops.renders.user_id IS 'Whose project it is';
COMMENT ON COLUMN ops.renders.platform IS 'The app that asked: web, ios, android or unknown';
COMMENT ON COLUMN ops.renders.state IS 'queued, submitting, rendering, completed, failed or cancelled; the last three are final';
COMMENT ON COLUMN ops.renders.progress IS 'Percent, as the backend last told';
COMMENT ON COLUMN ops.renders.attempts IS 'Submissions so far: rows in ops.render_attempts';
COMMENT ON COLUMN ops.renders.polls IS 'Looks at the current attempt so far; they become rarer';
COMMENT ON COLUMN ops.renders.format IS 'The container asked for';
COMMENT ON COLUMN ops.renders.quality IS 'The quality asked for';
COMMENT ON COLUMN ops.renders.revision IS 'The revision of the timeline that is exported';
COMMENT ON COLUMN ops.renders.problem_code IS 'Why it failed, or what it waits for: a code of the API';
COMMENT ON COLUMN ops.renders.has_draft IS 'The timeline has been read from the backend and is kept with the render';
COMMENT ON COLUMN ops.renders.file_bytes IS 'Size of the film, if the backend told';
COMMENT ON COLUMN ops.renders.duration_ms IS 'Length of the film in ms, if the backend told';
COMMENT ON COLUMN ops.renders.cancel_requested_at IS 'When the user asked to cancel it';
COMMENT ON COLUMN ops.renders.next_poll_at IS 'When it is looked at next, or when the claim of a worker runs out; null once it has ended';
COMMENT ON COLUMN ops.renders.claimed IS 'A worker has it in hand';
COMMENT ON COLUMN ops.renders.created_at IS 'When it was asked for';
COMMENT ON COLUMN ops.renders.submitted_at IS 'When the current attempt began';
COMMENT ON COLUMN ops.renders.completed_at IS 'When the film was ready';
COMMENT ON COLUMN ops.renders.needs_user_since IS 'Since when it waits for its user, whose account cannot be used; null when it does not';
--> statement-breakpoint
COMMENT ON VIEW ops.render_attempts IS 'Submissions of renders to the backend';
--> statement-breakpoint
COMMENT ON COLUMN ops.render_attempts.render_id IS 'The render';
COMMENT ON COLUMN ops.render_attempts.number IS '1 for its first attempt';
COMMENT ON COLUMN ops.render_attempts.delivery IS 'What is known of its way to the backend: not_sent, sent, acknowledged or unknown';
COMMENT ON COLUMN ops.render_attempts.unknown_reads IS 'How often in a row the backend did not know it';
COMMENT ON COLUMN ops.render_attempts.outcome IS 'completed, failed, cancelled or lost; null while it is under way';
COMMENT ON COLUMN ops.render_attempts.created_at IS 'When it was written down, before it was sent';
COMMENT ON COLUMN ops.render_attempts.ended_at IS 'When its outcome was known';
--> statement-breakpoint
COMMENT ON VIEW ops.runs IS 'Messages to the backend and what came of them';
--> statement-breakpoint
COMMENT ON COLUMN ops.runs.id IS 'The run; ids grow with time';
COMMENT ON COLUMN ops.runs.project_id IS 'The project it edits; its runs go one after the other';
COMMENT ON COLUMN ops.runs.user_id IS 'Who sent the message';
COMMENT ON COLUMN ops.runs.platform IS 'The app that sent it: web, ios, android or unknown';
COMMENT ON COLUMN ops.runs.state IS 'queued, running, reconciling, completed, failed or stopped; the last three are final';
COMMENT ON COLUMN ops.runs.delivery IS 'What is known of the message on its way to the backend: not_sent, sent, acknowledged or unknown';
COMMENT ON COLUMN ops.runs.attempt IS 'The worker that has it: one more with each takeover';
COMMENT ON COLUMN ops.runs.outcome IS 'answered, edited, unchanged or unknown';
COMMENT ON COLUMN ops.runs.problem_code IS 'Why it failed: a code of the API';
COMMENT ON COLUMN ops.runs.settled IS 'False while the backend may still be at work on a stopped or cut message';
COMMENT ON COLUMN ops.runs.stop_requested_at IS 'When the user asked to stop it';
COMMENT ON COLUMN ops.runs.unchanged_reads IS 'After a cut: reads in a row that found nothing new';
COMMENT ON COLUMN ops.runs.next_read_at IS 'After a cut: when the project is read next';
COMMENT ON COLUMN ops.runs.credits_before IS 'Credits before it, if they could be read';
COMMENT ON COLUMN ops.runs.credits_after IS 'Credits after it, if they could be read';
COMMENT ON COLUMN ops.runs.created_at IS 'When the message was accepted';
COMMENT ON COLUMN ops.runs.started_at IS 'When it was about to be sent';
COMMENT ON COLUMN ops.runs.finished_at IS 'When it ended';
--> statement-breakpoint
COMMENT ON VIEW ops.uploads IS 'Files on their way to the backend';
--> statement-breakpoint
COMMENT ON COLUMN ops.uploads.id IS 'The upload; ids grow with time';
COMMENT ON COLUMN ops.uploads.project_id IS 'The project it is for';
COMMENT ON COLUMN ops.uploads.user_id IS 'Who uploads it';
COMMENT ON COLUMN ops.uploads.state IS 'receiving, forwarding, ready or failed; the last two are final';
COMMENT ON COLUMN ops.uploads.media_type IS 'The kind of file its first bytes show';
COMMENT ON COLUMN ops.uploads.bytes IS 'Its size, once known';
COMMENT ON COLUMN ops.uploads.bytes_forwarded IS 'What the backend has been sent of it';
COMMENT ON COLUMN ops.uploads.problem_code IS 'Why it failed: a code of the API';
COMMENT ON COLUMN ops.uploads.created_at IS 'When it began';
COMMENT ON COLUMN ops.uploads.updated_at IS 'When it last moved';
--> statement-breakpoint
COMMENT ON VIEW ops.accounts IS 'Each user''s account at the backend';
--> statement-breakpoint
COMMENT ON COLUMN ops.accounts.user_id IS 'The user; ids grow with time';
COMMENT ON COLUMN ops.accounts.user_kind IS 'guest or account: how the user signs in here';
COMMENT ON COLUMN ops.accounts.kind IS 'anonymous, made by us, or linked, the user''s own';
COMMENT ON COLUMN ops.accounts.state IS 'none, ready, reauth_required (the user must link it again) or rate_limited (until retry_at)';
COMMENT ON COLUMN ops.accounts.has_token IS 'A sealed token is kept';
COMMENT ON COLUMN ops.accounts.token_expires_at IS 'When the token ends, if the backend told';
COMMENT ON COLUMN ops.accounts.generation IS 'Counts its tokens';
COMMENT ON COLUMN ops.accounts.mints IS 'How often a token was asked for';
COMMENT ON COLUMN ops.accounts.retry_at IS 'When the backend may be asked for a token again';
COMMENT ON COLUMN ops.accounts.minting_until IS 'A token is being asked for until then';
COMMENT ON COLUMN ops.accounts.created_at IS 'When the account was first needed';
COMMENT ON COLUMN ops.accounts.updated_at IS 'When it last changed';
--> statement-breakpoint
COMMENT ON VIEW ops.mint_budget IS 'Tokens asked for in the last 7 days, of which the backend gives one address about 10; one row';
--> statement-breakpoint
COMMENT ON COLUMN ops.mint_budget.budget IS 'Tokens the backend gives one address in 7 days; the gateways may be set to another number (MINTS_PER_WEEK)';
COMMENT ON COLUMN ops.mint_budget.delivered IS 'Asked for and received';
COMMENT ON COLUMN ops.mint_budget.unknown IS 'Asked for without an answer: counted as spent';
COMMENT ON COLUMN ops.mint_budget.refused IS 'Refused by the backend, which costs nothing';
COMMENT ON COLUMN ops.mint_budget.remaining IS 'How many more it is likely to give to one address';
COMMENT ON COLUMN ops.mint_budget.next_freed_at IS 'When the oldest one counted is 7 days old';
--> statement-breakpoint
COMMENT ON VIEW ops.queues IS 'Queues of jobs; empty before the first instance has started';
--> statement-breakpoint
COMMENT ON COLUMN ops.queues.name IS 'The queue';
COMMENT ON COLUMN ops.queues.waiting IS 'Jobs that could start now';
COMMENT ON COLUMN ops.queues.deferred IS 'Jobs that start later';
COMMENT ON COLUMN ops.queues.active IS 'Jobs at work';
COMMENT ON COLUMN ops.queues.failed IS 'Jobs that have failed for good, kept for a day';
COMMENT ON COLUMN ops.queues.blocked_keys IS 'Keys (of runs: projects) whose jobs wait behind one that has failed for good';
COMMENT ON COLUMN ops.queues.oldest_waiting_at IS 'Since when the oldest of the waiting jobs could have started';
--> statement-breakpoint
REVOKE ALL ON FUNCTION ops.read_queues() FROM PUBLIC;
--> statement-breakpoint
-- Roles belong to the whole cluster: another database's migration may have made it, or be making it now.
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'reelgate_ops') THEN
		CREATE ROLE reelgate_ops NOLOGIN;
	END IF;
EXCEPTION
	WHEN duplicate_object OR unique_violation THEN NULL;
	WHEN insufficient_privilege THEN
		RAISE WARNING 'The role reelgate_ops could not be made, for this user may not make roles. Dashboards need it: docs/operating.md has the four statements for an administrator.';
END
$$;
--> statement-breakpoint
DO $$
BEGIN
	IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'reelgate_ops') THEN
		GRANT USAGE ON SCHEMA ops TO reelgate_ops;
		GRANT SELECT ON ALL TABLES IN SCHEMA ops TO reelgate_ops;
		GRANT EXECUTE ON FUNCTION ops.read_queues() TO reelgate_ops;
	END IF;
END
$$;
