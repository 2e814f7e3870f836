-- Other columns of the parcel file, as far as an import keeps them.

SET ROLE cbm_owner;

-- As before, with the column.
CREATE OR REPLACE FUNCTION public.cbm_make_aoi(new_aoi text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    k text;
    stat_columns text;
    hist_columns text;
BEGIN
    INSERT INTO public.aoi (code) VALUES (new_aoi);
    EXECUTE format('CREATE SCHEMA %I', new_aoi);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO cbm_worker, cbm_api, cbm_analyst', new_aoi);
    EXECUTE format(
        'CREATE TABLE %I.parcels (
            campaign_id smallint NOT NULL,
            pid integer NOT NULL,
            set_id integer NOT NULL,
            code text NOT NULL,
            crop_name text,
            crop_code text,
            geom public.geometry(MultiPolygon) NOT NULL,
            geom_sha bytea NOT NULL,
            attributes jsonb
        ) PARTITION BY LIST (campaign_id)', new_aoi);
    EXECUTE format('GRANT SELECT ON %I.parcels TO cbm_worker, cbm_api, cbm_analyst', new_aoi);
    FOR k, stat_columns IN
        SELECT b.kind, string_agg(format('%s_%s real', lower(b.name), s.stat), ', '
                                  ORDER BY b.position, s.n)
        FROM public.band b, unnest(ARRAY['count', 'mean', 'std', 'min', 'p25', 'p50', 'p75', 'max'])
             WITH ORDINALITY AS s (stat, n)
        GROUP BY b.kind
    LOOP
        EXECUTE format(
            'CREATE TABLE %I.%I (
                campaign_id smallint NOT NULL, flags smallint NOT NULL,
                pid integer NOT NULL, obsid integer NOT NULL, px integer NOT NULL, %s
            ) PARTITION BY LIST (campaign_id)', new_aoi, k, stat_columns);
        EXECUTE format('GRANT SELECT ON %I.%I TO cbm_worker, cbm_api, cbm_analyst', new_aoi, k);
        EXECUTE format('COMMENT ON COLUMN %I.%I.px IS %L', new_aoi, k,
            'Pixels of the parcel on the scene''s finest grid, nodata and off-raster ones included.');
        EXECUTE format('COMMENT ON COLUMN %I.%I.flags IS %L', new_aoi, k,
            '1: finest grid by touched pixels (no pixel centre inside); 2: coarser grid likewise; '
            '4: the buffer left nothing, whole parcel used; 8: cut by the edge of the raster.');
    END LOOP;
    SELECT string_agg(format('c%s integer NOT NULL', n), ', ' ORDER BY n) INTO hist_columns
    FROM generate_series(0, 11) AS n;
    EXECUTE format(
        'CREATE TABLE %I.hists (
            campaign_id smallint NOT NULL, pid integer NOT NULL, obsid integer NOT NULL, %s
        ) PARTITION BY LIST (campaign_id)', new_aoi, hist_columns);
    EXECUTE format('GRANT SELECT ON %I.hists TO cbm_worker, cbm_api, cbm_analyst', new_aoi);
    EXECUTE format('COMMENT ON TABLE %I.hists IS %L', new_aoi,
        'Pixels per Sentinel-2 scene class (SCL 0 to 11) on the class band''s own grid.');
    PERFORM public.cbm_make_preferred(new_aoi);
END $$;

-- As before, with the column at the end.
CREATE OR REPLACE FUNCTION public.cbm_make_parcels_view(c public.campaign) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    view_name text := format('%I.%I', c.aoi, 'parcels_' || cbm_suffix(c));
    outline text := 'geom';
BEGIN
    EXECUTE format('DROP INDEX IF EXISTS %I.%I', c.aoi, format('parcels_c%s_stated', c.id));
    IF c.srid IS NOT NULL THEN
        outline := format('geom::public.geometry(MultiPolygon, %s)', c.srid);
        EXECUTE format('CREATE INDEX %I ON %I.%I USING gist ((%s))',
                       format('parcels_c%s_stated', c.id), c.aoi, 'parcels_c' || c.id, outline);
    END IF;
    EXECUTE format('DROP VIEW IF EXISTS %s', view_name);
    EXECUTE format(
        'CREATE VIEW %s AS SELECT pid AS ogc_fid, code, crop_name AS cropname, '
        'crop_code AS cropcode, %s AS wkb_geometry, attributes '
        'FROM %I.parcels WHERE campaign_id = %s',
        view_name, outline, c.aoi, c.id);
    EXECUTE format('GRANT SELECT ON %s TO cbm_worker, cbm_api, cbm_analyst', view_name);
END $$;

DO $$
DECLARE
    a text;
    c public.campaign;
BEGIN
    FOR a IN SELECT code FROM public.aoi LOOP
        EXECUTE format('ALTER TABLE %I.parcels ADD COLUMN attributes jsonb', a);
    END LOOP;
    -- Replaced in place: analysts may have built views on them.
    FOR c IN SELECT * FROM public.campaign ORDER BY id LOOP
        EXECUTE format(
            'CREATE OR REPLACE VIEW %I.%I AS SELECT pid AS ogc_fid, code, crop_name AS cropname, '
            'crop_code AS cropcode, %s AS wkb_geometry, attributes '
            'FROM %I.parcels WHERE campaign_id = %s',
            c.aoi, 'parcels_' || public.cbm_suffix(c),
            CASE WHEN c.srid IS NULL THEN 'geom'
                 ELSE format('geom::public.geometry(MultiPolygon, %s)', c.srid) END,
            c.aoi, c.id);
    END LOOP;
END $$;

RESET ROLE;
