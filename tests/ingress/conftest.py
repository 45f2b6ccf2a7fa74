"""An ingress in this process, with a real database and broker."""

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
from tests.fakes.tcp_proxy import TcpProxy
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
def database_proxy(settings: Settings) -> Iterator[TcpProxy]:
    """Proxy between the ingress and its database."""
    url = make_url(settings.database_url)
    with TcpProxy(url.host or "", url.port or 0) as database_proxy:
        yield database_proxy


@pytest.fixture
def ingress(settings: Settings, shop_id: int, database_proxy: TcpProxy, broker_url: str) -> Iterator[Ingress]:
    """A running ingress that reaches the database through ``database_proxy``."""
    url = make_url(settings.database_url).set(port=database_proxy.port)
    text = url.render_as_string(hide_password=False)
    with running(replace(settings, database_url=text, database_direct_url=text)) as app:
        yield app


@pytest.fixture
def client(ingress: Ingress) -> Client:
    """Client of the ingress."""
    return Client(ingress)
