"""Frames that switches send to the controller: dispatch, fair queueing, and the slow path of routers."""
