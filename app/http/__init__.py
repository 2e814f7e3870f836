"""HTTP as every route needs it: requests, parameters, responses, errors. No database, no users."""
