"""Webhook subscriptions at Shopify: check them, create missing ones, import missed events."""
