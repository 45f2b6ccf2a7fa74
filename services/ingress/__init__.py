"""Verify, record and answer signed webhooks. An answer of 2xx means that the row is committed."""
