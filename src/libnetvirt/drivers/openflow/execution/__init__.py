"""Carries out transactions: locks, rounds, persistence."""
