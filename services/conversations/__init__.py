"""Calls and messages."""
