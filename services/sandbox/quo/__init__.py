"""Stand-in for Quo (OpenPhone), API version 2026-03-30: calls, messages and their parts."""
