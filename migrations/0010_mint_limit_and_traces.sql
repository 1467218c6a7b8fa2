-- The trace that a render goes on in (W3C traceparent); null where nobody wants traces.
ALTER TABLE "renders" ADD COLUMN "traceparent" text;
--> statement-breakpoint
-- At most one row: MINTS_PER_WEEK of the gateway that started last.
CREATE TABLE "mint_limit" (
	"one" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"per_week" integer NOT NULL,
	CONSTRAINT "mint_limit_one" CHECK ("mint_limit"."one")
);
--> statement-breakpoint
-- Without a policy nobody but the owner sees anything.
ALTER TABLE "mint_limit" ENABLE ROW LEVEL SECURITY;
--> statement-breakpoint
CREATE OR REPLACE VIEW ops.mint_budget AS
SELECT per_week AS budget, delivered, unknown, refused,
	greatest(0, per_week - delivered - unknown)::integer AS remaining, next_freed_at
FROM (
	SELECT coalesce((SELECT per_week FROM public.mint_limit), 10) AS per_week,
		count(*) FILTER (WHERE outcome = 'delivered')::integer AS delivered,
		count(*) FILTER (WHERE outcome = 'unknown')::integer AS unknown,
		count(*) FILTER (WHERE outcome = 'refused')::integer AS refused,
		min(at) FILTER (WHERE outcome <> 'refused') + interval '7 days' AS next_freed_at
	FROM public.mints
	WHERE at > now() - interval '7 days'
) AS spent;
--> statement-breakpoint
COMMENT ON VIEW ops.mint_budget IS 'Tokens asked for in the last 7 days, and how many may be; one row';
--> statement-breakpoint
COMMENT ON COLUMN ops.mint_budget.budget IS 'Tokens that may be asked for in 7 days: MINTS_PER_WEEK of the gateway that started last; 10 before the first has';
COMMENT ON COLUMN ops.mint_budget.remaining IS 'How many more may be asked for now';
