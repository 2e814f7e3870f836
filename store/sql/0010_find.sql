-- What sources list, what of it is here, and the Level-1 products that CARD is made from.

SET ROLE cbm_owner;

CREATE TABLE public.input_product (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference text NOT NULL UNIQUE,
    level text NOT NULL CHECK (level IN ('GRD', 'SLC')),
    product_type text NOT NULL,
    platform text NOT NULL,
    sensing_start timestamptz NOT NULL,
    sensing_stop timestamptz NOT NULL,
    orbit_number integer NOT NULL,
    relative_orbit integer NOT NULL,
    orbit_direction text CHECK (orbit_direction IN ('ascending', 'descending')),
    footprint public.geometry(MultiPolygon, 4326) NOT NULL,
    bursts text[] NOT NULL DEFAULT '{}',
    href text NOT NULL,
    size_bytes bigint,
    state text NOT NULL CHECK (state IN ('online', 'offline', 'absent')),
    registered_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE public.input_product IS 'Level-1 products of Sentinel-1, which CARD is made from.';
COMMENT ON COLUMN public.input_product.product_type IS 'As folders of the archives are called: IW_GRDH_1S, IW_SLC__1S.';
COMMENT ON COLUMN public.input_product.bursts IS 'Ids of the bursts of an SLC, where they are known.';
COMMENT ON COLUMN public.input_product.href IS 'Folder of the product: an absolute path or s3://bucket/prefix.';
COMMENT ON COLUMN public.input_product.state IS 'offline: to be ordered; absent: listed, but not in the store.';
CREATE INDEX input_product_pass ON public.input_product (relative_orbit, sensing_start);
CREATE INDEX input_product_footprint ON public.input_product USING gist (footprint);

CREATE TABLE public.listed_product (
    source text NOT NULL,
    reference text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('s2', 'bs', 'c6', 'c12', 'grd', 'slc')),
    platform text NOT NULL,
    acquisition text NOT NULL,
    sensed_at timestamptz NOT NULL,
    tile text,
    relative_orbit integer,
    baseline text NOT NULL DEFAULT '',
    footprint public.geometry(MultiPolygon, 4326),
    href text,
    size_bytes bigint,
    state text NOT NULL CHECK (state IN ('online', 'offline', 'absent', 'unusable')),
    reason text,
    listed_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, reference)
);
COMMENT ON TABLE public.listed_product IS 'Products that a catalogue or bucket lists and that meet parcels: what should be here.';
COMMENT ON COLUMN public.listed_product.sensed_at IS 'Start of sensing, whole seconds.';
COMMENT ON COLUMN public.listed_product.state IS 'offline: to be ordered; absent: listed, but not in the store; unusable: see reason.';
CREATE INDEX listed_product_time ON public.listed_product (sensed_at);

CREATE TABLE public.sync_day (
    campaign_id smallint NOT NULL REFERENCES public.campaign ON DELETE CASCADE,
    source text NOT NULL,
    kind text NOT NULL,
    day date NOT NULL,
    area text NOT NULL,
    listed integer NOT NULL,
    complete boolean NOT NULL,
    looked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (campaign_id, source, kind, day)
);
COMMENT ON TABLE public.sync_day IS 'How far a source has been read for a campaign: a row for each day of sensing.';
COMMENT ON COLUMN public.sync_day.area IS 'Changes with the campaign''s parcels; then the day is read again.';
COMMENT ON COLUMN public.sync_day.complete IS 'Whether the source gave all of the day; if not, it is read again at once.';

-- Scenes of an overpass are looked up by it.
CREATE INDEX IF NOT EXISTS scene_acquisition ON public.scene (acquisition);

GRANT SELECT ON public.input_product, public.listed_product, public.sync_day
    TO cbm_worker, cbm_api, cbm_analyst;
GRANT INSERT, UPDATE ON public.input_product, public.listed_product, public.sync_day TO cbm_worker;

-- The scenes a campaign should have, each with what became of it:
--   extracted, waiting, dead: registered, by its work; registered: without work in this campaign;
--   input: a Level-1 product that is known, and no CARD made from it yet;
--   offline, absent, unusable: as its source says; missing: listed, online and not registered;
--   unlisted: no source lists it, though the same orbit was seen one cycle before and after it, or
--   one cycle before and its satellite later (10 days for Sentinel-2, 12 for Sentinel-1).
-- Superseded products are left out: of one overpass and tile, those of the highest baseline count.
CREATE FUNCTION public.cbm_expected(of_campaign smallint)
RETURNS TABLE (kind text, reference text, day date, tile text, relative_orbit integer, state text,
               reason text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public SET timezone = 'UTC' AS $$
    WITH sets AS (
        SELECT p.id, p.extent FROM parcel_set p WHERE p.campaign_id = of_campaign
    ), listed AS MATERIALIZED (
        -- One row for each product, whichever sources list it and whether as COG or not.
        SELECT DISTINCT ON (l.kind, l.acquisition, l.tile, l.baseline, l.sensed_at, slot)
               l.*, regexp_replace(l.reference, '_COG$', '') AS product
        FROM campaign c
        JOIN listed_product l ON l.sensed_at >= c.start_date AND l.sensed_at < c.end_date + 1,
        LATERAL (SELECT CASE WHEN l.kind = 's2'
                             THEN regexp_replace(l.reference, '_COG$', '') ELSE '' END AS slot) AS s
        WHERE c.id = of_campaign
          AND (l.footprint IS NULL
               OR EXISTS (SELECT FROM sets WHERE ST_Intersects(l.footprint, sets.extent)))
        ORDER BY l.kind, l.acquisition, l.tile, l.baseline, l.sensed_at, slot,
                 l.state <> 'online', l.seen_at DESC
    ), expected AS (
        SELECT l.* FROM listed l
        WHERE NOT EXISTS (
            SELECT FROM listed n
            WHERE n.kind = l.kind AND n.acquisition = l.acquisition AND n.tile = l.tile
              AND n.baseline > l.baseline)
    ), fate AS (
        SELECT e.kind, e.reference, e.sensed_at::date AS day, e.tile, e.relative_orbit,
               coalesce(here.state, made.state,
                        CASE WHEN e.state = 'online' THEN 'missing' ELSE e.state END) AS state,
               CASE WHEN here.state IS NULL THEN e.reason ELSE here.reason END AS reason
        FROM expected e
        LEFT JOIN LATERAL (
            SELECT CASE WHEN count(w.obsid) = 0 THEN 'registered'
                        WHEN bool_or(w.state = 'dead') THEN 'dead'
                        WHEN bool_and(w.state = 'done') THEN 'extracted'
                        ELSE 'waiting' END AS state,
                   min(w.reason) FILTER (WHERE w.state = 'dead') AS reason
            FROM scene s
            LEFT JOIN work w ON w.obsid = s.obsid AND w.set_id IN (SELECT id FROM sets)
            WHERE s.acquisition = e.acquisition
              AND s.kind = CASE e.kind WHEN 'grd' THEN 'bs' ELSE e.kind END
              AND CASE WHEN e.kind = 's2'
                  THEN s.tile IS NOT DISTINCT FROM e.tile
                       AND (regexp_replace(s.reference, '_COG$', '') = e.product
                            OR s.baseline > e.baseline)
                  ELSE date_trunc('second', s.obstime) = e.sensed_at END
            HAVING count(*) > 0
        ) AS here ON true
        LEFT JOIN LATERAL (
            SELECT CASE WHEN i.state = 'online' THEN 'input' ELSE i.state END AS state
            FROM input_product i
            WHERE i.level = upper(e.kind) AND i.platform = e.platform
              AND date_trunc('second', i.sensing_start) = e.sensed_at
            ORDER BY i.state <> 'online' LIMIT 1
        ) AS made ON true
    ), passes AS (
        SELECT DISTINCT l.kind, l.platform, l.tile, l.relative_orbit, l.sensed_at::date AS day,
               CASE l.kind WHEN 's2' THEN 10 ELSE 12 END AS cycle
        FROM listed l WHERE l.relative_orbit IS NOT NULL
    ), steps AS (
        SELECT p.*,
               lead(p.day) OVER (PARTITION BY p.kind, p.platform, p.tile, p.relative_orbit
                                 ORDER BY p.day) AS next_day,
               max(p.day) OVER (PARTITION BY p.kind, p.platform) AS last_day
        FROM passes p
    )
    SELECT f.kind, f.reference, f.day, f.tile, f.relative_orbit, f.state, f.reason FROM fate f
    UNION ALL
    SELECT s.kind, NULL, d::date, s.tile, s.relative_orbit, 'unlisted', NULL
    FROM steps s, generate_series(s.day + s.cycle,
                                  coalesce(s.next_day - 1, s.last_day)::timestamp,
                                  make_interval(days => s.cycle)) AS d
    WHERE s.next_day IS NULL OR (s.next_day - s.day) % s.cycle = 0
$$;
REVOKE EXECUTE ON FUNCTION public.cbm_expected(smallint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.cbm_expected(smallint) TO cbm_worker, cbm_api, cbm_analyst;

-- Counts alone, for who may not see products.
CREATE FUNCTION public.cbm_gap_counts(of_campaign smallint)
RETURNS TABLE (kind text, state text, scenes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT e.kind, e.state, count(*) FROM cbm_expected(of_campaign) AS e GROUP BY e.kind, e.state
$$;
REVOKE EXECUTE ON FUNCTION public.cbm_gap_counts(smallint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.cbm_gap_counts(smallint)
    TO pg_monitor, cbm_worker, cbm_api, cbm_analyst;

CREATE VIEW public.figures_gaps AS
SELECT c.aoi, concat_ws(' ', c.year, nullif(c.ptype, '')) AS campaign, g.kind, g.state, g.scenes
FROM public.campaign c, LATERAL public.cbm_gap_counts(c.id) AS g
WHERE c.state = 'open';
COMMENT ON VIEW public.figures_gaps IS
    'Scenes that each open campaign should have, by what became of them (cbm_expected).';

CREATE VIEW public.figures_sync AS
SELECT c.aoi, concat_ws(' ', c.year, nullif(c.ptype, '')) AS campaign, d.source, d.kind,
       count(*) AS days, count(*) FILTER (WHERE NOT d.complete) AS incomplete_days,
       extract(epoch FROM now() - max(d.looked_at))::double precision AS idle_seconds
FROM public.campaign c
JOIN public.sync_day d ON d.campaign_id = c.id
WHERE c.state = 'open'
GROUP BY c.id, d.source, d.kind;
COMMENT ON VIEW public.figures_sync IS 'How far each source has been read for each open campaign.';
COMMENT ON COLUMN public.figures_sync.idle_seconds IS 'Since the source was last read.';

GRANT SELECT ON public.figures_gaps, public.figures_sync
    TO pg_monitor, cbm_api, cbm_worker, cbm_analyst;

RESET ROLE;
