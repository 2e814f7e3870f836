"""Backups of the database by pgBackRest, and a drill that restores and compares them.

It runs on the database's host with Debian's Python and psycopg2 alone.
"""
