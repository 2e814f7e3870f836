"""HTML for people: the built pages with their files, the login, tables of images."""
