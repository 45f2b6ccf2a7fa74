"""Fixtures of the shop floor."""

import pytest
from sqlalchemy import Engine

from tests.shopfloor.floor import make_floor, place_order


@pytest.fixture
def floor(engine: Engine) -> Engine:
    """A shop with one order on its board."""
    make_floor(engine)
    place_order(engine)
    return engine
