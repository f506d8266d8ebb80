"""How fast libnetvirt is, beside its peers in the same run: ``make bench``."""
