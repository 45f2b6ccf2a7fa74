"""Know: the tenants, their settings and their sealed secrets."""
