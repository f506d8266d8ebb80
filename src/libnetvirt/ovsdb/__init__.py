"""OVSDB (RFC 7047), for all drivers that need it: a client with a live copy, values, where databases are."""
