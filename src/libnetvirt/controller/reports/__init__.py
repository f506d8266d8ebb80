"""States, paths and counters for people."""
