"""Show: the operators' pages. Listens on loopback; every route has a gate or is listed as public."""
