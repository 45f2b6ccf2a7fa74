"""A shop whose events are all old, and the archive store of the test."""

from tests.privacy.conftest import archive, shop

__all__ = ["archive", "shop"]
