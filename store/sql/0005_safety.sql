-- Tokens and roles of the API's users; an audit that says from where, and forgets in time.

SET ROLE cbm_owner;

ALTER TABLE public.api_grant
    ADD COLUMN role text NOT NULL DEFAULT 'reader' CHECK (role IN ('reader', 'operator'));
COMMENT ON COLUMN public.api_grant.role IS
    'reader: asks about parcels and series; operator: also sees the extraction''s progress and failures.';

CREATE TABLE public.api_token (
    id text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{8}$'),
    user_name text NOT NULL REFERENCES public.api_user ON DELETE CASCADE,
    secret_sha256 bytea NOT NULL,
    note text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz
);
COMMENT ON COLUMN public.api_token.secret_sha256 IS
    'Of 256 random bits, which nobody can guess: so it needs neither salt nor slowness.';
COMMENT ON COLUMN public.api_token.expires_at IS 'NULL: never.';
CREATE INDEX api_token_user ON public.api_token (user_name);
GRANT SELECT ON public.api_token TO cbm_api;

ALTER TABLE public.api_audit ADD COLUMN token_id text, ADD COLUMN address text;
COMMENT ON COLUMN public.api_audit.token_id IS 'The token that proved the user; NULL for a password.';
COMMENT ON COLUMN public.api_audit.address IS 'Where the request came from.';

-- Forgets audit rows older than some days, at most so many at once; returns how many. The API may
-- call it, and may do nothing else to rows that are written: so it refuses to forget young ones.
CREATE FUNCTION public.cbm_prune_audit(days integer, most integer DEFAULT 20000) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    forgotten integer;
BEGIN
    IF days IS NULL OR days < 30 THEN
        RAISE EXCEPTION 'audit rows are kept for 30 days at least, not %', days;
    END IF;
    DELETE FROM public.api_audit WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM public.api_audit
        WHERE at < now() - make_interval(days => days) LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $$;
REVOKE EXECUTE ON FUNCTION public.cbm_prune_audit(integer, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.cbm_prune_audit(integer, integer) TO cbm_api;

-- What the queue's figures count, beside the work that is open.
CREATE INDEX work_dead ON public.work (set_id) WHERE state = 'dead';

RESET ROLE;
