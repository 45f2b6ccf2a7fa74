"""Measure Shopfleet beside the ways people usually build this, in one run on one machine."""
