"""Keep time: which run of which job is due, and what became of it."""
