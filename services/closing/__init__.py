"""Act across the domains: the night, the week and the month of a shop are closed."""
