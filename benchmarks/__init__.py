"""Benchmarks of libnetvirt, with its peers measured in the same run: ``make bench``."""
