"""Connections of switches: listening, TLS, sessions, back-off."""
