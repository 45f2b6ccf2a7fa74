"""Scheduled reports on hours worked, from QuickBooks Time, by mail."""
