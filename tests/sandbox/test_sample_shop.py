"""The sandbox of ``fleet up --sandbox``: a shop that is connected finds a catalogue in its currency."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from services.core.settings import get_settings
from services.sandbox.payloads.catalogue import make_sample_items
from tests.cli.commands import run
from tests.shopify.backfill.fake_shop import work_off


@pytest.fixture
def work_in_background(engine: Engine) -> Iterator[None]:
    stop = threading.Event()

    def process() -> None:
        while not stop.wait(0.05):
            work_off(engine)

    worker = threading.Thread(target=process)
    worker.start()
    yield
    stop.set()
    worker.join(60)


@pytest.mark.usefixtures("work_in_background")
@pytest.mark.parametrize(("currency", "zone"), [("CAD", "America/Vancouver"), ("JPY", "Asia/Tokyo")])
def test_a_shop_is_connected_to_the_sandbox_and_finds_the_items_of_fleet_send(
    engine: Engine, start: Any, monkeypatch: pytest.MonkeyPatch, currency: str, zone: str
) -> None:
    _, port = start("services.sandbox.serve", "--catalogue")
    added = run("shops", "add", "acme", "--name", "Acme", "--timezone", zone, "--currency", currency,
                "--owner-email", "ada@acme.example")  # fmt: skip
    assert added.exit_code == 0, added.output
    given = "shopify-domain=acme.myshopify.com\nshopify-token=shpat_any\nshopify-webhook=any-client-secret\n"

    with monkeypatch.context() as patch:
        patch.setenv("SHOPIFY_API_BASE", f"http://127.0.0.1:{port}/shopify")
        get_settings.cache_clear()
        done = run("shops", "connect", "acme", "--from-file", "-", answer=given)
    get_settings.cache_clear()

    assert done.exit_code == 0, done.output
    assert f"acme.myshopify.com accepts the token: {currency}, {zone}" in done.output
    assert "complete: 8 products, 8 levels" in done.output
    with transaction(engine) as tx:
        levels = tx.exec_driver_sql("select sku, available from inventory_levels order by available desc")
        assert [tuple(row) for row in levels] == [
            (item.sku, 12 - place) for place, item in enumerate(make_sample_items(currency))
        ]
