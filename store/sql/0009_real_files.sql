-- Baselines by what they mean; places of files that do not say them stand beside their names.

SET ROLE cbm_owner;

-- A baseline as it is compared: later ones are greater; 99.99 marks a processor run by somebody
-- locally, which says nothing of its version, as no baseline does.
CREATE FUNCTION public.cbm_baseline_rank(baseline text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN baseline = '99.99' THEN '' ELSE baseline END
$$;
COMMENT ON FUNCTION public.cbm_baseline_rank(text) IS 'A processing baseline as text that sorts by age; local runs (N9999) and unknown ones come first.';
GRANT EXECUTE ON FUNCTION public.cbm_baseline_rank(text) TO cbm_worker, cbm_api, cbm_analyst;

-- As before, with baselines in that order.
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
            'ROW(greatest(%4$s)::double precision / greatest(r.px, 1), '
            'public.cbm_baseline_rank(s.baseline), '
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

-- vrt:///path?a_srs=EPSG:n&a_ullr=west,north,east,south becomes the path, and the place in numbers.
UPDATE public.scene s SET bands = (
    SELECT jsonb_object_agg(name, CASE WHEN place IS NULL THEN source ELSE
        source || jsonb_build_object(
            'href', place[1], 'epsg', place[2]::integer, 'bounds_m', jsonb_build_array(
                place[3]::double precision, place[6]::double precision,
                place[5]::double precision, place[4]::double precision)) END)
    FROM jsonb_each(s.bands) AS band (name, source),
         LATERAL (SELECT regexp_match(source ->> 'href',
             '^vrt://(/[^?]+)\?a_srs=EPSG:(\d+)&a_ullr=([-\d.e+]+),([-\d.e+]+),([-\d.e+]+),([-\d.e+]+)$'
         ) AS place) AS said)
WHERE s.bands::text LIKE '%vrt:///%';
COMMENT ON COLUMN public.scene.bands IS 'band -> {href, index, offset, nodata, factor ...}: where it lies, and what its values need (BandSource in store/catalogue.py).';

RESET ROLE;
