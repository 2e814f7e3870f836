-- CARD in the making: the queue of products that processors make from Level-1, a table beside `work`.

SET ROLE cbm_owner;

CREATE TABLE public.making (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('bs', 'c6', 'c12')),
    inputs text[] NOT NULL CHECK (cardinality(inputs) > 0),
    sensed_at timestamptz NOT NULL,
    engine text NOT NULL,
    settings jsonb NOT NULL,
    digest text NOT NULL,
    replace boolean NOT NULL DEFAULT false,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'claimed', 'done', 'dead')),
    fence integer NOT NULL DEFAULT 0,
    holder text,
    lease_until timestamptz,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    failures smallint NOT NULL DEFAULT 0,
    lost_leases smallint NOT NULL DEFAULT 0,
    reason text,
    tiles_done integer,
    tiles integer,
    product text,
    size_bytes bigint,
    cpu_s real,
    software text,
    queued_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, inputs)
);
COMMENT ON TABLE public.making IS 'CARD to be made from Level-1 products, from pending to done or dead; as `work` for scenes.';
COMMENT ON COLUMN public.making.inputs IS 'References of the Level-1 products; of a pair the later one first.';
COMMENT ON COLUMN public.making.digest IS 'Of engine and settings: products of two digests do not go into one season.';
COMMENT ON COLUMN public.making.replace IS 'A product made otherwise that is there is replaced; else that is a conflict.';
COMMENT ON COLUMN public.making.fence IS 'Grows with every claim and withdrawal; a processor whose number is old publishes nothing.';
COMMENT ON COLUMN public.making.lost_leases IS 'Leases that ran out, and tries that the world (storage, archive) kept from succeeding.';
COMMENT ON COLUMN public.making.product IS 'Reference of the scene it became.';
COMMENT ON COLUMN public.making.queued_at IS 'When it was queued, or put back by hand: orders at the archive that failed before do not count.';
CREATE INDEX making_open ON public.making (sensed_at DESC, id) WHERE state IN ('pending', 'claimed');
CREATE INDEX making_claimed ON public.making (lease_until) WHERE state = 'claimed';

GRANT SELECT ON public.making TO cbm_worker, cbm_api, cbm_analyst;
GRANT INSERT, UPDATE ON public.making TO cbm_worker;

CREATE VIEW public.figures_making AS
SELECT kind, state, count(*) AS products,
       extract(epoch FROM now() - min(changed_at))::double precision AS oldest_seconds,
       coalesce(greatest(extract(epoch FROM now() - min(lease_until)), 0), 0)::double precision
           AS overdue_seconds
FROM public.making
GROUP BY kind, state;
COMMENT ON VIEW public.figures_making IS 'CARD in the making, by kind and state.';
COMMENT ON COLUMN public.figures_making.oldest_seconds IS
    'How long the oldest of it has been in its state.';
COMMENT ON COLUMN public.figures_making.overdue_seconds IS
    'How long a lease has run out, with no processor taking the product over; 0 if none has.';
GRANT SELECT ON public.figures_making TO pg_monitor, cbm_api, cbm_worker, cbm_analyst;

RESET ROLE;
