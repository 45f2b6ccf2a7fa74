"""Audit: who changed what, in a chain of hashes per shop."""
