"""Bandwidth and latency: capacities, reservations, constrained paths, meters and queues."""
