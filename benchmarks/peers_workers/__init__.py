"""Programs of the usual ways to process queued work. They run in the environment of the peers."""
