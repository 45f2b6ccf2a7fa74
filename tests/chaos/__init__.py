"""Faults under load against a whole durable fleet: ``python -m tests.chaos``."""
