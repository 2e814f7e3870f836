-- A key of users that no later user of the same name has; sessions that ended before their time.

SET ROLE cbm_owner;

ALTER TABLE public.api_user ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY UNIQUE;
COMMENT ON COLUMN public.api_user.id IS 'Never used again, unlike the name of a removed user.';

CREATE TABLE public.ended_session (
    id text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{32}$'),
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE public.ended_session IS 'Sessions of the pages that were logged out.';
COMMENT ON COLUMN public.ended_session.expires_at IS 'From then on the session has ended by itself.';
GRANT SELECT ON public.ended_session TO cbm_api;

-- Ends a session, and forgets those that have expired. The API may call it, and can do no more with
-- it than to log somebody out.
CREATE FUNCTION public.cbm_end_session(of_id text, of_expires_at timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    DELETE FROM public.ended_session WHERE expires_at < now();
    INSERT INTO public.ended_session
    VALUES (of_id, least(of_expires_at, now() + interval '1 day')) ON CONFLICT DO NOTHING;
$$;
REVOKE EXECUTE ON FUNCTION public.cbm_end_session(text, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.cbm_end_session(text, timestamptz) TO cbm_api;

RESET ROLE;
