"""Networks to try things on, in network namespaces of their own: for tests, demonstrations and people."""
