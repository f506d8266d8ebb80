"""What is reported about networks and the substrate: states, paths, counters."""
