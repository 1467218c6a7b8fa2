-- Looks up the projects of many users in one call, each with the rights of its user alone: row level security decides
-- anew for every pair, and what is another's, or not there, brings no row. The rights end with the statement.
CREATE FUNCTION "own_projects"(users uuid[], ids uuid[]) RETURNS SETOF "projects"
LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. cardinality(ids) LOOP
		PERFORM set_config('reelgate.user_id', users[i]::text, true);
		RETURN QUERY SELECT * FROM projects p WHERE p.id = ids[i] AND p.user_id = users[i] AND p.deleted_at IS NULL;
	END LOOP;
END $$;
