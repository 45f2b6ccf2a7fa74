"""Shops with a clean last night, and a browser that sees them, of tests without fixtures of their own."""

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from services.accounts.roles import Role
from services.core.clock import utc_now
from tests.console.fleet_of_shops import add_fine_shops, add_signals
from tests.console.people import make_console, sign_in_as


@pytest.fixture
def ids(engine: Engine) -> list[int]:
    with engine.begin() as tx:
        add_signals(tx, utc_now())
        return add_fine_shops(tx, "harbour", "orchard", now=utc_now())


@pytest.fixture
def client(engine: Engine, ids: list[int]) -> FlaskClient:
    return sign_in_as(make_console(engine), Role.VIEWER)
