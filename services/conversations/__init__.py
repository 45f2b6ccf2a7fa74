"""Act: calls and messages."""
