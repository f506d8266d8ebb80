"""Packets that switches send up: dispatch, fair queueing, and the slow path of routed networks."""
