"""Console: the operators' pages. Listens on loopback; every route is gated or listed as public."""
