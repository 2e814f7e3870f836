-- Roles, the scene catalogue, campaigns with their parcel sets, and the queue of work.
-- Applied as a superuser (PostGIS asks for one); everything made belongs to cbm_owner.

CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['cbm_owner', 'cbm_worker', 'cbm_api', 'cbm_analyst'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        END IF;
    END LOOP;
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CREATE, TEMPORARY ON DATABASE %I TO cbm_owner', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO cbm_owner, cbm_worker, cbm_api, cbm_analyst',
                   current_database());
END $$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT CREATE, USAGE ON SCHEMA public TO cbm_owner;
SET ROLE cbm_owner;

CREATE TABLE public.aoi (
    code text PRIMARY KEY
        CHECK (code ~ '^[a-z][a-z0-9]{1,7}$' AND code <> 'public'),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE public.scene (
    obsid integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reference text NOT NULL UNIQUE,
    kind text NOT NULL CHECK (kind IN ('s2', 'bs', 'c6', 'c12')),
    platform text NOT NULL,
    obstime timestamptz NOT NULL,
    acquisition text NOT NULL,
    orbit_direction text CHECK (orbit_direction IN ('ascending', 'descending')),
    relative_orbit integer,
    tile text,
    baseline text NOT NULL DEFAULT '',
    produced_at timestamptz,
    cloud_cover_pct real,
    unit text NOT NULL,
    scale double precision,
    epsg integer NOT NULL,
    footprint public.geometry(MultiPolygon, 4326) NOT NULL,
    bands jsonb NOT NULL,
    absent text[] NOT NULL DEFAULT '{}',
    software text NOT NULL,
    registered_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE public.scene IS 'The catalogue: one row per analysis-ready scene; its obsid is how signatures refer to it.';
COMMENT ON COLUMN public.scene.acquisition IS 'Equal for all scenes made of one overpass (tiles, reprocessings, twins).';
COMMENT ON COLUMN public.scene.unit IS 'Of the signatures: dn, reflectance, gamma0_linear, sigma0_linear, gamma0_db, sigma0_db, coherence.';
COMMENT ON COLUMN public.scene.scale IS 'dn * scale = reflectance; NULL where the values are physical already.';
COMMENT ON COLUMN public.scene.bands IS 'band -> {href, index, offset, nodata}: where it lies, what is added to its values once.';
COMMENT ON COLUMN public.scene.absent IS 'Bands of the kind that the product lacks; NULL in the signatures.';
CREATE INDEX scene_obstime ON public.scene (obstime);
CREATE INDEX scene_footprint ON public.scene USING gist (footprint);

CREATE TABLE public.campaign (
    id smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    aoi text NOT NULL REFERENCES public.aoi,
    year integer NOT NULL CHECK (year BETWEEN 2000 AND 2100),
    ptype text NOT NULL DEFAULT '' CHECK (ptype ~ '^[a-z0-9]{0,8}$'),
    start_date date NOT NULL,
    end_date date NOT NULL,
    buffer_m real NOT NULL DEFAULT 0 CHECK (buffer_m >= 0),
    srid integer,
    units jsonb NOT NULL DEFAULT '{}',
    obsids_per_partition integer NOT NULL DEFAULT 128 CHECK (obsids_per_partition > 0),
    next_pid integer NOT NULL DEFAULT 1,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    created_at timestamptz NOT NULL DEFAULT now(),
    closed_at timestamptz,
    CHECK (start_date <= end_date),
    UNIQUE (aoi, year, ptype)
);
COMMENT ON COLUMN public.campaign.end_date IS 'The last day, included.';
COMMENT ON COLUMN public.campaign.buffer_m IS 'Inward buffer of every parcel before reduction, metres.';
COMMENT ON COLUMN public.campaign.units IS 'kind -> unit of its signatures; the first scene of a kind sets it.';

CREATE TABLE public.parcel_set (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id smallint NOT NULL REFERENCES public.campaign,
    digest text NOT NULL,
    parcels integer NOT NULL,
    extent public.geometry(Polygon, 4326) NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE public.parcel_set IS 'The parcels one import added or changed: the unit that scenes are extracted for.';
COMMENT ON COLUMN public.parcel_set.digest IS 'Changes whenever the pids or geometries of the set do; keys the span cache.';
CREATE INDEX parcel_set_campaign ON public.parcel_set (campaign_id);

CREATE TABLE public.work (
    obsid integer NOT NULL REFERENCES public.scene ON DELETE CASCADE,
    set_id integer NOT NULL REFERENCES public.parcel_set ON DELETE CASCADE,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'claimed', 'done', 'dead')),
    fence integer NOT NULL DEFAULT 0,
    holder text,
    lease_until timestamptz,
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    failures smallint NOT NULL DEFAULT 0,
    lost_leases smallint NOT NULL DEFAULT 0,
    reason text,
    signatures integer,
    outside integer,
    nodata integer,
    cpu_s real,
    software text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (obsid, set_id)
);
COMMENT ON TABLE public.work IS 'The queue: each scene once per parcel set, from pending to done or dead.';
COMMENT ON COLUMN public.work.lost_leases IS 'Leases that ran out, and tries that the world (storage, network) kept from succeeding.';
COMMENT ON COLUMN public.work.fence IS 'Grows with every claim and withdrawal; a writer whose number is old writes nothing.';
COMMENT ON COLUMN public.work.signatures IS 'Parcels with a row; with outside and nodata, all parcels of the set.';
COMMENT ON COLUMN public.work.outside IS 'Parcels without a pixel on the raster.';
COMMENT ON COLUMN public.work.nodata IS 'Parcels on the raster, without one valid pixel in any band.';
CREATE INDEX work_set ON public.work (set_id);
CREATE INDEX work_open ON public.work (obsid, set_id) WHERE state IN ('pending', 'claimed');

-- Every scene joins every open campaign whose dates and parcels it meets. Safe to call at any time.
CREATE FUNCTION public.cbm_enqueue() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public SET timezone = 'UTC' AS $$
DECLARE
    added integer;
BEGIN
    INSERT INTO public.work (obsid, set_id)
    SELECT s.obsid, p.id
    FROM public.scene s
    JOIN public.campaign c
      ON c.state = 'open' AND s.obstime >= c.start_date AND s.obstime < c.end_date + 1
    JOIN public.parcel_set p
      ON p.campaign_id = c.id AND ST_Intersects(s.footprint, p.extent)
    WHERE NOT EXISTS (SELECT FROM public.work w WHERE w.obsid = s.obsid AND w.set_id = p.id)
    ORDER BY s.obstime, s.obsid, p.id
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END $$;

GRANT USAGE ON SCHEMA public TO cbm_worker, cbm_api, cbm_analyst;
GRANT SELECT ON public.aoi, public.scene, public.campaign, public.parcel_set, public.work
    TO cbm_worker, cbm_api, cbm_analyst;
GRANT INSERT, UPDATE ON public.scene TO cbm_worker;
GRANT UPDATE ON public.work TO cbm_worker;
GRANT UPDATE (units) ON public.campaign TO cbm_worker;
REVOKE EXECUTE ON FUNCTION public.cbm_enqueue() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.cbm_enqueue() TO cbm_worker;

RESET ROLE;
