"""Receive: verify a signed webhook, record it, answer. A 2xx means that its row is committed."""
