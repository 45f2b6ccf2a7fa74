"""Ledger: the durable record of inbound events, of work, and of its results."""
