"""Reports on networks and the substrate: states, paths, counters."""
