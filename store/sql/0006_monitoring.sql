-- What monitoring sees beside PostgreSQL's own figures: those of the queue; no parcel, scene or user.
-- Its login is a member of PostgreSQL's own role for this, pg_monitor.

DO $$
BEGIN
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO pg_monitor', current_database());
END $$;

SET ROLE cbm_owner;

-- Work that is open is found by work_open, dead work by work_dead; here is what was done lately.
CREATE INDEX work_done ON public.work (changed_at) INCLUDE (set_id, signatures)
    WHERE state = 'done';

CREATE VIEW public.figures_work AS
SELECT c.aoi, concat_ws(' ', c.year, nullif(c.ptype, '')) AS campaign, w.state,
       count(*) AS pieces,
       extract(epoch FROM now() - min(w.changed_at))::double precision AS oldest_seconds,
       coalesce(greatest(extract(epoch FROM now() - min(w.lease_until)), 0), 0)::double precision
           AS overdue_seconds
FROM public.work w
JOIN public.parcel_set p ON p.id = w.set_id
JOIN public.campaign c ON c.id = p.campaign_id
WHERE w.state IN ('pending', 'claimed') OR w.state = 'dead' AND c.state = 'open'
GROUP BY c.id, w.state;
COMMENT ON VIEW public.figures_work IS
    'Work that is not done, of each campaign by state; dead work of open campaigns only.';
COMMENT ON COLUMN public.figures_work.oldest_seconds IS
    'How long the oldest of it has been in its state.';
COMMENT ON COLUMN public.figures_work.overdue_seconds IS
    'How long a lease has run out, with nobody taking the work over; 0 if none has.';

CREATE VIEW public.figures_done AS
SELECT c.aoi, concat_ws(' ', c.year, nullif(c.ptype, '')) AS campaign,
       count(w.set_id) AS pieces, coalesce(sum(w.signatures), 0) AS signatures,
       coalesce(extract(epoch FROM now() - max(w.changed_at)), 86400)::double precision
           AS idle_seconds
FROM public.campaign c
LEFT JOIN public.parcel_set p ON p.campaign_id = c.id
LEFT JOIN public.work w
  ON w.set_id = p.id AND w.state = 'done' AND w.changed_at > now() - interval '1 day'
WHERE c.state = 'open'
GROUP BY c.id;
COMMENT ON VIEW public.figures_done IS 'Work done in the last 24 hours, of each open campaign.';
COMMENT ON COLUMN public.figures_done.idle_seconds IS 'Since the last of it; a day at most.';

GRANT SELECT ON public.figures_work, public.figures_done TO pg_monitor, cbm_api;

RESET ROLE;
