"""Programs of the usual ways to carry out queued work. They run in the peers' own environment."""
