"""Doubles of what is beyond our process."""
