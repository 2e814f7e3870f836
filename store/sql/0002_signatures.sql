-- A schema per Member State (aoi): parcels and signatures, the campaign as LIST partition,
-- ranges of obsid below it; and views in the shapes the JRC's users know.

SET ROLE cbm_owner;

-- The bands of each CARD kind, and the names the JRC's tables give them.
CREATE TABLE public.band (
    kind text NOT NULL,
    name text NOT NULL,
    position smallint NOT NULL,
    jrc_name text NOT NULL,
    PRIMARY KEY (kind, name)
);
INSERT INTO public.band (kind, name, position, jrc_name) VALUES
    ('s2', 'B02', 1, 'B02'), ('s2', 'B03', 2, 'B03'), ('s2', 'B04', 3, 'B04'),
    ('s2', 'B05', 4, 'B05'), ('s2', 'B06', 5, 'B06'), ('s2', 'B07', 6, 'B07'),
    ('s2', 'B08', 7, 'B08'), ('s2', 'B8A', 8, 'B8A'), ('s2', 'B11', 9, 'B11'),
    ('s2', 'B12', 10, 'B12'),
    ('bs', 'VV', 1, 'VVb'), ('bs', 'VH', 2, 'VHb'),
    ('c6', 'VV', 1, 'VVc'), ('c6', 'VH', 2, 'VHc'),
    ('c12', 'VV', 1, 'VVc'), ('c12', 'VH', 2, 'VHc');
GRANT SELECT ON public.band TO cbm_worker, cbm_api, cbm_analyst;

-- Makes the schema of an aoi and its partitioned tables.
CREATE FUNCTION public.cbm_make_aoi(new_aoi text) RETURNS void
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
            geom_sha bytea NOT NULL
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

-- The leaf that takes the rows of (campaign, obsid) in one of an aoi's tables; made when missing.
-- Attaching locks neither readers nor writers of the other leaves out.
CREATE FUNCTION public.cbm_leaf(of_campaign smallint, of_table text, of_obsid integer) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    c public.campaign;
    first_obsid integer;
    leaf text;
BEGIN
    SELECT * INTO STRICT c FROM public.campaign WHERE id = of_campaign;
    IF of_table <> 'hists' AND NOT EXISTS (SELECT FROM public.band WHERE kind = of_table) THEN
        RAISE EXCEPTION 'no such signature table: %', of_table;
    END IF;
    first_obsid := of_obsid / c.obsids_per_partition * c.obsids_per_partition;
    leaf := format('%s_c%s_%s', of_table, of_campaign, first_obsid);
    IF to_regclass(format('%I.%I', c.aoi, leaf)) IS NOT NULL THEN
        RETURN leaf;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('cbm_leaf'), of_campaign);
    -- Not to_regclass: it may still answer from before the lock.
    IF EXISTS (SELECT FROM pg_class
               WHERE relname = leaf AND relnamespace = c.aoi::regnamespace) THEN
        RETURN leaf;
    END IF;
    EXECUTE format('CREATE TABLE %1$I.%2$I (LIKE %1$I.%3$I INCLUDING ALL)', c.aoi, leaf, of_table);
    EXECUTE format('ALTER TABLE %I.%I ADD PRIMARY KEY (pid, obsid)', c.aoi, leaf);
    EXECUTE format('CREATE INDEX ON %I.%I USING brin (obsid) WITH (pages_per_range = 32)',
                   c.aoi, leaf);
    EXECUTE format('GRANT SELECT, INSERT, DELETE ON %I.%I TO cbm_worker', c.aoi, leaf);
    EXECUTE format('GRANT SELECT ON %I.%I TO cbm_api, cbm_analyst', c.aoi, leaf);
    EXECUTE format(
        'ALTER TABLE %1$I.%2$I ATTACH PARTITION %1$I.%3$I FOR VALUES FROM (%4$s) TO (%5$s)',
        c.aoi, format('%s_c%s', of_table, of_campaign), leaf,
        first_obsid, first_obsid + c.obsids_per_partition);
    RETURN leaf;
END $$;

-- Rows as (pid, obsid, band, count, mean, std, min, max, p25, p50, p75): one SELECT per band, which
-- the planner prunes; a band that a product lacks has no row.
CREATE FUNCTION public.cbm_long_rows(of_aoi text, of_campaign smallint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, public AS $$
    SELECT string_agg(format(
        'SELECT pid, obsid, %1$L::text AS band, %2$s_count AS count, %2$s_mean AS mean, '
        '%2$s_std AS std, %2$s_min AS min, %2$s_max AS max, '
        '%2$s_p25 AS p25, %2$s_p50 AS p50, %2$s_p75 AS p75 '
        'FROM %3$I.%4$I WHERE campaign_id = %5$s AND %2$s_count IS NOT NULL',
        jrc_name, lower(name), of_aoi, kind, of_campaign), ' UNION ALL ' ORDER BY kind, position)
    FROM public.band
$$;

-- Makes a campaign: its partitions, and the JRC-shaped views {aoi}.parcels_, sigs_, hists_{year}.
CREATE FUNCTION public.cbm_make_campaign(
    new_aoi text, new_year integer, new_ptype text, new_start date, new_end date, new_buffer_m real
) RETURNS smallint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    new_id smallint;
    suffix text := new_year || CASE WHEN new_ptype = '' THEN '' ELSE '_' || new_ptype END;
    t text;
    hist_entries text;
BEGIN
    IF NOT EXISTS (SELECT FROM public.aoi WHERE code = new_aoi) THEN
        PERFORM public.cbm_make_aoi(new_aoi);
    END IF;
    INSERT INTO public.campaign (aoi, year, ptype, start_date, end_date, buffer_m)
    VALUES (new_aoi, new_year, new_ptype, new_start, new_end, new_buffer_m)
    RETURNING id INTO new_id;

    EXECUTE format('CREATE TABLE %1$I.%2$I PARTITION OF %1$I.parcels FOR VALUES IN (%3$s)',
                   new_aoi, 'parcels_c' || new_id, new_id);
    EXECUTE format('ALTER TABLE %I.%I ADD PRIMARY KEY (pid), ADD UNIQUE (code)',
                   new_aoi, 'parcels_c' || new_id);
    EXECUTE format('CREATE INDEX ON %I.%I USING gist (geom)', new_aoi, 'parcels_c' || new_id);
    EXECUTE format('CREATE INDEX ON %I.%I (set_id)', new_aoi, 'parcels_c' || new_id);
    FOR t IN SELECT DISTINCT kind FROM public.band UNION ALL SELECT 'hists' LOOP
        EXECUTE format(
            'CREATE TABLE %1$I.%2$I PARTITION OF %1$I.%3$I FOR VALUES IN (%4$s) '
            'PARTITION BY RANGE (obsid)', new_aoi, t || '_c' || new_id, t, new_id);
    END LOOP;

    EXECUTE format(
        'CREATE VIEW %1$I.%2$I AS SELECT pid AS ogc_fid, code, crop_name AS cropname, '
        'crop_code AS cropcode, geom AS wkb_geometry FROM %1$I.parcels WHERE campaign_id = %3$s',
        new_aoi, 'parcels_' || suffix, new_id);
    EXECUTE format('CREATE VIEW %I.%I AS %s', new_aoi, 'sigs_' || suffix,
                   public.cbm_long_rows(new_aoi, new_id));
    SELECT string_agg(format('%L, nullif(c%s, 0)', n::text, n), ', ' ORDER BY n) INTO hist_entries
    FROM generate_series(0, 11) AS n;
    EXECUTE format(
        'CREATE VIEW %1$I.%2$I AS SELECT pid, obsid, '
        'json_strip_nulls(json_build_object(%3$s)) AS hist FROM %1$I.hists WHERE campaign_id = %4$s',
        new_aoi, 'hists_' || suffix, hist_entries, new_id);
    FOREACH t IN ARRAY ARRAY['parcels_', 'sigs_', 'hists_'] LOOP
        EXECUTE format('GRANT SELECT ON %I.%I TO cbm_worker, cbm_api, cbm_analyst',
                       new_aoi, t || suffix);
    END LOOP;
    RETURN new_id;
END $$;

-- Drops a campaign with all its data: parcels, signatures, views, queue.
CREATE FUNCTION public.cbm_drop_campaign(old_id smallint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    c public.campaign;
    suffix text;
    t text;
BEGIN
    SELECT * INTO STRICT c FROM public.campaign WHERE id = old_id FOR UPDATE;
    suffix := c.year || CASE WHEN c.ptype = '' THEN '' ELSE '_' || c.ptype END;
    DELETE FROM public.parcel_set WHERE campaign_id = old_id;
    FOREACH t IN ARRAY ARRAY['parcels_', 'sigs_', 'hists_'] LOOP
        EXECUTE format('DROP VIEW %I.%I', c.aoi, t || suffix);
    END LOOP;
    FOR t IN SELECT DISTINCT kind FROM public.band UNION ALL VALUES ('hists'), ('parcels') LOOP
        EXECUTE format('DROP TABLE %I.%I', c.aoi, t || '_c' || old_id);
    END LOOP;
    DELETE FROM public.campaign WHERE id = old_id;
END $$;

-- The scene to prefer where several show one overpass: per parcel and acquisition the one that
-- covers most of the parcel, then the newest baseline, then the newest product.
CREATE FUNCTION public.cbm_make_preferred(of_aoi text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    branches text;
BEGIN
    SELECT string_agg(format(
        'SELECT %1$L::text AS kind, campaign_id, pid, obsid, acquisition, obstime FROM ('
        'SELECT r.campaign_id, r.pid, r.obsid, s.acquisition, s.obstime, row_number() OVER ('
        'PARTITION BY r.campaign_id, r.pid, s.acquisition '
        'ORDER BY greatest(%2$s)::double precision / greatest(r.px, 1) DESC, '
        's.baseline DESC, s.produced_at DESC NULLS LAST, s.obsid DESC) AS place '
        'FROM %3$I.%1$I r JOIN public.scene s USING (obsid)) ranked WHERE place = 1',
        kind, counts, of_aoi), ' UNION ALL ' ORDER BY kind)
    INTO branches
    FROM (SELECT kind, string_agg(format('r.%s_count', lower(name)), ', ' ORDER BY position) AS counts
          FROM public.band GROUP BY kind) AS k;
    EXECUTE format('CREATE OR REPLACE VIEW %I.preferred AS %s', of_aoi, branches);
    EXECUTE format('GRANT SELECT ON %I.preferred TO cbm_worker, cbm_api, cbm_analyst', of_aoi);
END $$;

REVOKE EXECUTE ON FUNCTION
    public.cbm_make_aoi(text),
    public.cbm_leaf(smallint, text, integer),
    public.cbm_long_rows(text, smallint),
    public.cbm_make_campaign(text, integer, text, date, date, real),
    public.cbm_drop_campaign(smallint),
    public.cbm_make_preferred(text)
FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.cbm_leaf(smallint, text, integer) TO cbm_worker;

-- The catalogue in the JRC's shape.
CREATE VIEW public.dias_catalogue AS
SELECT s.obsid AS id,
       s.obstime AT TIME ZONE 'UTC' AS obstime,
       s.reference,
       right(s.platform, 2) AS sensor,
       s.kind AS card,
       CASE WHEN bool_or(w.state = 'claimed') THEN 'inprogress'
            WHEN bool_or(w.state = 'pending') THEN 'ingested'
            WHEN bool_or(w.state = 'dead') THEN 'failed'
            WHEN bool_or(w.signatures > 0) THEN 'extracted'
            WHEN bool_or(w.state = 'done') THEN 'no_parcels'
            ELSE 'ingested' END AS status,
       s.footprint
FROM public.scene s
LEFT JOIN public.work w USING (obsid)
GROUP BY s.obsid;
GRANT SELECT ON public.dias_catalogue TO cbm_worker, cbm_api, cbm_analyst;

RESET ROLE;
