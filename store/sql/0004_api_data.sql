-- What the API tells beside signatures: weather and markers; and views of observations
-- with their statistics, so that a series reads the signatures once.

SET ROLE cbm_owner;

CREATE TABLE public.weather_cell (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    centre public.geometry(Point, 4326) NOT NULL
);
COMMENT ON TABLE public.weather_cell IS 'Points of a grid of daily weather such as ERA5''s.';
CREATE UNIQUE INDEX weather_cell_place ON public.weather_cell (ST_X(centre), ST_Y(centre));
CREATE INDEX weather_cell_centre ON public.weather_cell USING gist (centre);

CREATE TABLE public.weather_day (
    cell_id integer NOT NULL REFERENCES public.weather_cell ON DELETE CASCADE,
    day date NOT NULL,
    tmin_c real,
    tmax_c real,
    tmean_c real,
    prec_mm real,
    PRIMARY KEY (cell_id, day)
);
COMMENT ON COLUMN public.weather_day.day IS 'In UTC.';
GRANT SELECT ON public.weather_cell, public.weather_day TO cbm_worker, cbm_api, cbm_analyst;

CREATE TABLE public.marker (
    campaign_id smallint NOT NULL REFERENCES public.campaign ON DELETE CASCADE,
    code text NOT NULL,
    marker text NOT NULL,
    marker_type text NOT NULL DEFAULT '',
    date_start date NOT NULL,
    date_main date,
    date_end date,
    value_1 double precision,
    value_2 double precision,
    value_3 double precision,
    practice text,
    CHECK (date_end IS NULL OR date_start <= date_end),
    PRIMARY KEY (campaign_id, code, marker, marker_type, date_start)
);
COMMENT ON TABLE public.marker IS 'What a marker found out about a parcel, by the agency''s id.';
GRANT SELECT ON public.marker TO cbm_worker, cbm_api, cbm_analyst;

-- What an observation is preferred by where several scenes show one overpass, the greatest first:
-- the share of the parcel that is covered, then the newest baseline, then the newest product.
CREATE TYPE public.merit AS (
    covered double precision, baseline text, produced_at timestamptz, obsid integer
);

-- As before, on top of two views per kind: observed_{kind}, signatures with their scene's names and
-- their merit; preferred_{kind}, the one of most merit per parcel and acquisition.
CREATE OR REPLACE FUNCTION public.cbm_make_preferred(of_aoi text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    k text;
    counts text;
    v text;
    branches text;
BEGIN
    FOR k, counts IN
        SELECT kind, string_agg(format('r.%s_count', lower(name)), ', ' ORDER BY position)
        FROM public.band GROUP BY kind ORDER BY kind
    LOOP
        EXECUTE format(
            'CREATE OR REPLACE VIEW %1$I.%2$I AS '
            'SELECT s.acquisition, s.obstime, s.reference, '
            'ROW(greatest(%4$s)::double precision / greatest(r.px, 1), s.baseline, '
            'coalesce(s.produced_at, ''-infinity''), s.obsid)::public.merit AS merit, r.* '
            'FROM %1$I.%3$I r JOIN public.scene s USING (obsid)',
            of_aoi, 'observed_' || k, k, counts);
        EXECUTE format(
            'CREATE OR REPLACE VIEW %1$I.%2$I AS SELECT * FROM (SELECT row_number() OVER ('
            'PARTITION BY campaign_id, pid, acquisition ORDER BY merit DESC) AS place, o.* '
            'FROM %1$I.%3$I o) ranked WHERE place = 1',
            of_aoi, 'preferred_' || k, 'observed_' || k);
        FOREACH v IN ARRAY ARRAY['observed_', 'preferred_'] LOOP
            EXECUTE format('GRANT SELECT ON %I.%I TO cbm_worker, cbm_api, cbm_analyst',
                           of_aoi, v || k);
        END LOOP;
        branches := concat_ws(' UNION ALL ', branches, format(
            'SELECT %L::text AS kind, campaign_id, pid, obsid, acquisition, obstime FROM %I.%I',
            k, of_aoi, 'preferred_' || k));
    END LOOP;
    EXECUTE format('CREATE OR REPLACE VIEW %I.preferred AS %s', of_aoi, branches);
    EXECUTE format('GRANT SELECT ON %I.preferred TO cbm_worker, cbm_api, cbm_analyst', of_aoi);
END $$;

DO $$
DECLARE
    a text;
BEGIN
    FOR a IN SELECT code FROM public.aoi LOOP
        PERFORM public.cbm_make_preferred(a);
    END LOOP;
END $$;

RESET ROLE;
