"""The REST API: what is stored about parcels, for people, notebooks and the JRC's client."""
