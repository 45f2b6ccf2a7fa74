"""Fulfillments, fulfillment orders, inventory transfers and returns."""
