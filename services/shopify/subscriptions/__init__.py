"""Webhook subscriptions at Shopify: check them, create missing ones, import what was missed."""
