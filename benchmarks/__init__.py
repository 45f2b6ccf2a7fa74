"""Compare Shopfleet with the usual solutions, in one run on one machine."""
