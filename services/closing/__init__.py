"""Act across the domains: the daily, weekly and monthly close of a shop."""
