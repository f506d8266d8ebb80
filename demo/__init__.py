"""The demonstration: one story, told on real switches or in memory. ``python -m demo --help``."""
