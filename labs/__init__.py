"""Test networks in network namespaces, for tests, demonstrations and manual experiments."""
