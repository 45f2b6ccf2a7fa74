"""Tests against the servers of Debian's packages: ``make test-installation``."""
