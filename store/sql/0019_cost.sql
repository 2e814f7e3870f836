-- What the appliance costs, for the status page. Prices and the cloud's usage records are known on the
-- operator's machine alone, which publishes a ledger now and then (`fab cost --publish`).

SET ROLE cbm_owner;

-- json, not jsonb: the parts keep their order.
CREATE TABLE public.cost_ledger (
    at timestamptz PRIMARY KEY DEFAULT now(),
    ledger json NOT NULL
);
COMMENT ON TABLE public.cost_ledger IS 'Cost of a year and of a parcel-year by part, as published; the newest row counts.';
COMMENT ON COLUMN public.cost_ledger.ledger IS 'As `fab cost --as-json` prints it, checked by store/cost.py.';
GRANT SELECT ON public.cost_ledger TO cbm_api;

RESET ROLE;
