"""The substrate: discovery of links, their latency, and shortest paths."""
