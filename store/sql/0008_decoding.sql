-- One decode per scene: how its files are read, and which scenes come first.

SET ROLE cbm_owner;

ALTER TABLE public.scene ADD COLUMN tile_parts jsonb, ADD COLUMN thinning_flaw text;
COMMENT ON COLUMN public.scene.tile_parts IS
    'href -> [starts, lengths] of the tiles of its remote JPEG 2000 files, so that they are looked for once.';
COMMENT ON COLUMN public.scene.thinning_flaw IS
    'Why whole tiles are decoded: with the code blocks of the parcels alone, other pixels came out. NULL: not so.';
CREATE INDEX scene_thinning_flaw ON public.scene (obsid) WHERE thinning_flaw IS NOT NULL;

CREATE VIEW public.figures_decoding AS
SELECT count(*) AS flawed_scenes FROM public.scene WHERE thinning_flaw IS NOT NULL;
COMMENT ON VIEW public.figures_decoding IS
    'Scenes whose code blocks gave other pixels than their whole tiles, and which are read whole.';
GRANT SELECT ON public.figures_decoding TO pg_monitor, cbm_api;

ALTER TABLE public.work ADD COLUMN again boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN public.work.again IS
    'The scene was extracted before: for other parcels, or with other facts. New scenes may come first.';
CREATE INDEX work_next ON public.work (again, obsid, set_id) WHERE state IN ('pending', 'claimed');
-- Leases that ran out are looked for at each claim, however long the queue is.
CREATE INDEX work_claimed ON public.work (lease_until) WHERE state = 'claimed';

-- As in 0001, and says whether the scene was extracted before.
CREATE OR REPLACE FUNCTION public.cbm_enqueue() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public SET timezone = 'UTC' AS $$
DECLARE
    added integer;
BEGIN
    INSERT INTO public.work (obsid, set_id, again)
    SELECT s.obsid, p.id,
           EXISTS (SELECT FROM public.work o WHERE o.obsid = s.obsid AND o.signatures IS NOT NULL)
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

RESET ROLE;
