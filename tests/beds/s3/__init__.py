"""A real S3 server for the tests; see README.md."""
