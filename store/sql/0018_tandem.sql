-- Coherence over 1 day: Sentinel-1C and -1D follow one another on one track. A kind of its own, c1d,
-- for what is lost in a day is not what is lost in six. (c1 is the JRC's name for c12.)

SET ROLE cbm_owner;

-- First without a look at the rows, all of which held to a stricter one.
ALTER TABLE public.scene DROP CONSTRAINT scene_kind_check,
    ADD CONSTRAINT scene_kind_check CHECK (kind IN ('s2', 'bs', 'c1d', 'c6', 'c12')) NOT VALID;
ALTER TABLE public.scene VALIDATE CONSTRAINT scene_kind_check;
ALTER TABLE public.making DROP CONSTRAINT making_kind_check,
    ADD CONSTRAINT making_kind_check CHECK (kind IN ('bs', 'c1d', 'c6', 'c12')) NOT VALID;
ALTER TABLE public.making VALIDATE CONSTRAINT making_kind_check;

INSERT INTO public.band (kind, name, position, jrc_name) VALUES
    ('c1d', 'VV', 1, 'VVc'), ('c1d', 'VH', 2, 'VHc');

DO $$
DECLARE
    a text;
    c public.campaign;
BEGIN
    FOR a IN SELECT code FROM public.aoi ORDER BY code LOOP
        EXECUTE format('CREATE TABLE %1$I.c1d (LIKE %1$I.c6 INCLUDING COMMENTS) '
                       'PARTITION BY LIST (campaign_id)', a);
        EXECUTE format('GRANT SELECT ON %I.c1d TO cbm_worker, cbm_api, cbm_analyst', a);
    END LOOP;
    FOR c IN SELECT * FROM public.campaign ORDER BY id LOOP
        EXECUTE format(
            'CREATE TABLE %1$I.%2$I PARTITION OF %1$I.c1d FOR VALUES IN (%3$s) '
            'PARTITION BY RANGE (obsid)', c.aoi, 'c1d_c' || c.id, c.id);
        PERFORM public.cbm_make_views(c);
    END LOOP;
    FOR a IN SELECT code FROM public.aoi ORDER BY code LOOP
        PERFORM public.cbm_make_preferred(a);
    END LOOP;
END $$;

COMMENT ON COLUMN public.scene.unit IS 'Of the signatures: dn, reflectance, gamma0_linear, gamma0_terrain_linear, gamma0_ellipsoid_linear, sigma0_linear, the same in _db, coherence.';

RESET ROLE;
