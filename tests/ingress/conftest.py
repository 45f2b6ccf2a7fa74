"""An ingress in this process, over the suite's real database and broker."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import Engine
from sqlalchemy.engine import make_url

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import Settings
from services.ingress.app import Ingress
from services.shops.secrets import record_secret
from services.shops.shops import add_shop
from tests.fakes.line import Line
from tests.ingress.rsgi import Client, running

SHOPIFY_SECRET = "hush-shopify-client-secret"
STRIPE_SECRET = "whsec_" + "s" * 32
QUO_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def shop_id(engine: Engine) -> int:
    """Shop ``acme`` with a secret for every sender."""
    with transaction(engine) as tx:
        shop = add_shop(
            tx, slug="acme", name="Acme", timezone="America/Los_Angeles", currency="CAD", now=utc_now()
        )
        for name, value in (
            ("shopify-webhook", SHOPIFY_SECRET),
            ("stripe-webhook", STRIPE_SECRET),
            ("openphone-webhook", QUO_SECRET),
            ("standard-webhook:till", QUO_SECRET),
        ):
            record_secret(tx, shop.id, name, value, utc_now())
        return shop.id


@pytest.fixture
def line(settings: Settings) -> Iterator[Line]:
    """The line between the ingress and its database."""
    url = make_url(settings.database_url)
    with Line(url.host or "", url.port or 0) as line:
        yield line


@pytest.fixture
def ingress(settings: Settings, shop_id: int, line: Line, broker_url: str) -> Iterator[Ingress]:
    """A running ingress whose line to the database is ``line``."""
    url = make_url(settings.database_url).set(port=line.port)
    with running(replace(settings, database_url=url.render_as_string(hide_password=False))) as app:
        yield app


@pytest.fixture
def client(ingress: Ingress) -> Client:
    """Somebody who posts."""
    return Client(ingress)
