"""Bulk actions: a person acts on all rows of a list that match, as background work in chunks."""
