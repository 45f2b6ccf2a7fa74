"""One module per outside system: verify what it sends, call it, and say what a failure means."""
