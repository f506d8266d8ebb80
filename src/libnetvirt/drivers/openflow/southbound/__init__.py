"""Connections to switches: listeners, TLS, sessions, and switches that are rejected or backed off."""
