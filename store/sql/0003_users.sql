-- Who may ask the API, for which aoi; and a row per request.

SET ROLE cbm_owner;

CREATE TABLE public.api_user (
    name text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$'),
    password_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN public.api_user.password_hash IS 'Argon2id, with its parameters and salt.';

CREATE TABLE public.api_grant (
    user_name text NOT NULL REFERENCES public.api_user ON DELETE CASCADE,
    aoi text NOT NULL REFERENCES public.aoi ON DELETE CASCADE,
    granted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_name, aoi)
);

CREATE TABLE public.api_audit (
    at timestamptz NOT NULL DEFAULT now(),
    user_name text,
    method text NOT NULL,
    path text NOT NULL,
    query text NOT NULL,
    status smallint NOT NULL,
    took_ms real NOT NULL
);
COMMENT ON COLUMN public.api_audit.user_name IS 'As given; with status 401 nobody has proved it.';
CREATE INDEX api_audit_at ON public.api_audit USING brin (at);

GRANT SELECT ON public.api_user, public.api_grant TO cbm_api;
GRANT INSERT ON public.api_audit TO cbm_api;

RESET ROLE;
