"""Retention: archives and deletes old rows, so that the tables do not grow without end."""
