"""Simulated providers and a mail sink on loopback, and webhook payloads. Not for production."""
