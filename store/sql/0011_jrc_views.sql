-- The JRC's views for its own statements: joins reach the signatures' index, geometry columns state
-- their SRID, the area of each aoi; and analysts: a schema to write in, no large objects.

SET ROLE cbm_owner;

-- Rows as (pid, obsid, band, count, mean, std, min, max, p25, p50, p75): one SELECT per band, which
-- the planner prunes; a band that a product lacks has no row. Only branches of one table without a
-- WHERE become members of one relation, whose index a join by pid then uses.
CREATE OR REPLACE FUNCTION public.cbm_long_rows(of_aoi text, of_campaign smallint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, public AS $$
    SELECT 'SELECT * FROM (' || string_agg(format(
        'SELECT pid, obsid, %1$L::text AS band, %2$s_count AS count, %2$s_mean AS mean, '
        '%2$s_std AS std, %2$s_min AS min, %2$s_max AS max, '
        '%2$s_p25 AS p25, %2$s_p50 AS p50, %2$s_p75 AS p75 FROM %3$I.%4$I',
        jrc_name, lower(name), of_aoi, kind || '_c' || of_campaign),
        ' UNION ALL ' ORDER BY kind, position) || ') AS sigs WHERE count IS NOT NULL'
    FROM public.band
$$;

-- The end of the names of a campaign's views: 2024, or 2024_g for parcel type g.
CREATE FUNCTION public.cbm_suffix(c public.campaign) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, public AS $$
    SELECT concat_ws('_', c.year, nullif(c.ptype, ''))
$$;

-- Makes {aoi}.parcels_{year}. Once the campaign has an SRID its geometry column states it, and an
-- index serves the column as the view has it.
CREATE FUNCTION public.cbm_make_parcels_view(c public.campaign) RETURNS void
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
        'crop_code AS cropcode, %s AS wkb_geometry FROM %I.parcels WHERE campaign_id = %s',
        view_name, outline, c.aoi, c.id);
    EXECUTE format('GRANT SELECT ON %s TO cbm_worker, cbm_api, cbm_analyst', view_name);
END $$;

-- Makes the JRC-shaped views {aoi}.parcels_, sigs_, hists_{year} of a campaign, or makes them over.
CREATE FUNCTION public.cbm_make_views(c public.campaign) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    suffix text := cbm_suffix(c);
    hist_entries text;
    t text;
BEGIN
    PERFORM cbm_make_parcels_view(c);
    EXECUTE format('CREATE OR REPLACE VIEW %I.%I AS %s', c.aoi, 'sigs_' || suffix,
                   cbm_long_rows(c.aoi, c.id));
    SELECT string_agg(format('%L, nullif(c%s, 0)', n::text, n), ', ' ORDER BY n) INTO hist_entries
    FROM generate_series(0, 11) AS n;
    EXECUTE format(
        'CREATE OR REPLACE VIEW %1$I.%2$I AS SELECT pid, obsid, '
        'json_strip_nulls(json_build_object(%3$s)) AS hist FROM %1$I.hists WHERE campaign_id = %4$s',
        c.aoi, 'hists_' || suffix, hist_entries, c.id);
    FOREACH t IN ARRAY ARRAY['sigs_', 'hists_'] LOOP
        EXECUTE format('GRANT SELECT ON %I.%I TO cbm_worker, cbm_api, cbm_analyst',
                       c.aoi, t || suffix);
    END LOOP;
END $$;

-- Makes a campaign: its partitions and its views.
CREATE OR REPLACE FUNCTION public.cbm_make_campaign(
    new_aoi text, new_year integer, new_ptype text, new_start date, new_end date, new_buffer_m real
) RETURNS smallint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    c public.campaign;
    t text;
BEGIN
    IF NOT EXISTS (SELECT FROM public.aoi WHERE code = new_aoi) THEN
        PERFORM public.cbm_make_aoi(new_aoi);
    END IF;
    INSERT INTO public.campaign (aoi, year, ptype, start_date, end_date, buffer_m)
    VALUES (new_aoi, new_year, new_ptype, new_start, new_end, new_buffer_m)
    RETURNING * INTO c;

    EXECUTE format('CREATE TABLE %1$I.%2$I PARTITION OF %1$I.parcels FOR VALUES IN (%3$s)',
                   new_aoi, 'parcels_c' || c.id, c.id);
    EXECUTE format('ALTER TABLE %I.%I ADD PRIMARY KEY (pid), ADD UNIQUE (code)',
                   new_aoi, 'parcels_c' || c.id);
    EXECUTE format('CREATE INDEX ON %I.%I USING gist (geom)', new_aoi, 'parcels_c' || c.id);
    EXECUTE format('CREATE INDEX ON %I.%I (set_id)', new_aoi, 'parcels_c' || c.id);
    FOR t IN SELECT DISTINCT kind FROM public.band UNION ALL SELECT 'hists' LOOP
        EXECUTE format(
            'CREATE TABLE %1$I.%2$I PARTITION OF %1$I.%3$I FOR VALUES IN (%4$s) '
            'PARTITION BY RANGE (obsid)', new_aoi, t || '_c' || c.id, t, c.id);
    END LOOP;
    PERFORM cbm_make_views(c);
    RETURN c.id;
END $$;

-- Drops a campaign with all its data: parcels, signatures, views, queue; and what analysts have
-- built on these. Copies that they made of rows stay.
CREATE OR REPLACE FUNCTION public.cbm_drop_campaign(old_id smallint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    c public.campaign;
    t text;
BEGIN
    SELECT * INTO STRICT c FROM public.campaign WHERE id = old_id FOR UPDATE;
    DELETE FROM public.parcel_set WHERE campaign_id = old_id;
    FOREACH t IN ARRAY ARRAY['parcels_', 'sigs_', 'hists_'] LOOP
        EXECUTE format('DROP VIEW %I.%I CASCADE', c.aoi, t || cbm_suffix(c));
    END LOOP;
    FOR t IN SELECT DISTINCT kind FROM public.band UNION ALL VALUES ('hists'), ('parcels') LOOP
        EXECUTE format('DROP TABLE %I.%I CASCADE', c.aoi, t || '_c' || old_id);
    END LOOP;
    DELETE FROM public.campaign WHERE id = old_id;
END $$;

CREATE FUNCTION public.cbm_state_srid() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM cbm_make_parcels_view(NEW);
    RETURN NULL;
END $$;
CREATE TRIGGER state_srid AFTER UPDATE OF srid ON public.campaign
FOR EACH ROW WHEN (OLD.srid IS DISTINCT FROM NEW.srid) EXECUTE FUNCTION public.cbm_state_srid();

REVOKE EXECUTE ON FUNCTION
    public.cbm_make_parcels_view(public.campaign),
    public.cbm_make_views(public.campaign),
    public.cbm_state_srid()
FROM PUBLIC;

DO $$
DECLARE
    c public.campaign;
BEGIN
    FOR c IN SELECT * FROM public.campaign ORDER BY id LOOP
        PERFORM public.cbm_make_views(c);
    END LOOP;
END $$;

-- As before; the status is worked out for those scenes alone that a statement takes.
CREATE OR REPLACE VIEW public.dias_catalogue AS
SELECT s.obsid AS id,
       s.obstime AT TIME ZONE 'UTC' AS obstime,
       s.reference,
       right(s.platform, 2) AS sensor,
       s.kind AS card,
       (SELECT CASE WHEN bool_or(w.state = 'claimed') THEN 'inprogress'
                    WHEN bool_or(w.state = 'pending') THEN 'ingested'
                    WHEN bool_or(w.state = 'dead') THEN 'failed'
                    WHEN bool_or(w.signatures > 0) THEN 'extracted'
                    WHEN bool_or(w.state = 'done') THEN 'no_parcels'
                    ELSE 'ingested' END
        FROM public.work w WHERE w.obsid = s.obsid) AS status,
       s.footprint
FROM public.scene s;

-- The area of each aoi, as far as parcels are known.
CREATE VIEW public.aois AS
SELECT a.code AS name,
       ST_Multi(ST_Union(p.extent))::public.geometry(MultiPolygon, 4326) AS wkb_geometry
FROM public.aoi a
LEFT JOIN public.campaign c ON c.aoi = a.code
LEFT JOIN public.parcel_set p ON p.campaign_id = c.id
GROUP BY a.code;
COMMENT ON VIEW public.aois IS 'Each aoi with the boxes around its parcels; NULL before an import.';
GRANT SELECT ON public.aois TO cbm_worker, cbm_api, cbm_analyst;

-- No aoi can have this name. What analysts make in it is theirs, and no part of a campaign.
CREATE SCHEMA cbm_scratch;
COMMENT ON SCHEMA cbm_scratch IS 'For analysts'' own tables and views; each owns what he makes.';
GRANT CREATE, USAGE ON SCHEMA cbm_scratch TO cbm_analyst;

CREATE VIEW public.figures_scratch AS
SELECT r.relowner::regrole::text AS owner, count(*) AS tables,
       coalesce(sum(pg_total_relation_size(r.oid)), 0)::bigint AS bytes
FROM pg_class r
WHERE r.relnamespace = 'cbm_scratch'::regnamespace AND r.relkind IN ('r', 'm')
GROUP BY r.relowner;
COMMENT ON VIEW public.figures_scratch IS 'What each analyst keeps in cbm_scratch.';
GRANT SELECT ON public.figures_scratch TO pg_monitor, cbm_analyst;

RESET ROLE;

-- Nobody here uses large objects; as shipped every login may write them, without bound.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT oid FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proname IN (
            'lo_creat', 'lo_create', 'lo_open', 'lo_from_bytea', 'lo_put', 'lo_truncate',
            'lo_truncate64', 'lowrite', 'lo_import', 'lo_export')
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
END $$;

-- Ends what analysts have run for longer than that, and transactions that they left open; returns
-- how many. Every login may lift its own statement_timeout, and nobody this.
CREATE FUNCTION public.cbm_cancel_analysts(longest interval) RETURNS integer
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    SELECT count(CASE WHEN a.state = 'active' THEN pg_cancel_backend(a.pid)
                      ELSE pg_terminate_backend(a.pid) END)::integer
    FROM pg_stat_activity a
    JOIN pg_roles r ON r.oid = a.usesysid
    WHERE a.datname = current_database() AND a.state <> 'idle'
      AND clock_timestamp() - a.state_change > longest
      AND NOT r.rolsuper AND pg_has_role(r.oid, 'cbm_analyst', 'MEMBER')
      AND NOT pg_has_role(r.oid, 'cbm_owner', 'MEMBER')
$$;
REVOKE EXECUTE ON FUNCTION public.cbm_cancel_analysts(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.cbm_cancel_analysts(interval) TO cbm_owner;
