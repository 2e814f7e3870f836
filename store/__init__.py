"""The kernel: scenes, parcels and signatures, in the database and the object store."""
