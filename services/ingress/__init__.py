"""Verify, record and answer signed webhooks. A 2xx response means that the row is committed."""
