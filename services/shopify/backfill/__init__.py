"""Backfill: missing objects of Shopify's own lists are recorded as inbound events."""
