"""Programs of the usual ways to accept a webhook. They run in the environment of the peers."""
