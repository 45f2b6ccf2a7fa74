"""Act: payments and their reconciliation with Stripe."""
