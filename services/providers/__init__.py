"""One module per outside system: verifies its webhooks, calls its API and classifies failures."""
