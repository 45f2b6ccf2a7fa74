"""``fleet shops connect`` names what it waits for, and prints no line twice."""

from pathlib import Path

import pytest

from services.cli import progress, wait_for_workers
from services.cli.server_errors import IS_IT_UP
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.pause import PauseScope, record_pause
from services.shops.shops import get_shop, set_shop
from tests.shopify.backfill.fake_shop import DOMAIN, Shops
from tests.shopify.backfill.test_connect import connect, shop, write

__all__ = ["shop"]


def test_what_holds_the_work_is_named_while_it_waits(shop: Shops, tmp_path: Path) -> None:
    scopes = [PauseScope(queue="webhooks"), PauseScope(queue="email"), PauseScope(topic="order_ingest")]
    with transaction(shop.engine) as tx:
        for scope in (*scopes, PauseScope(shop_id=get_shop(tx, "holed").id + 1)):
            record_pause(tx, scope, "hold", now=utc_now(), by="ada", reason="count", request_id="")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wait_for_workers, "CAUSES_AFTER_SECONDS", 0.0)
        patched.setattr(wait_for_workers, "STALLED_AFTER_SECONDS", 1.0)
        patched.setenv("BROKER_URL", "redis://:hidden@127.0.0.1:1/0")
        get_settings.cache_clear()
        done = connect("holed", "--from-file", write(tmp_path))
    get_settings.cache_clear()
    waits = [line for line in done.stderr.splitlines() if line.startswith("waiting: ")]

    assert sorted(line.split(",")[0] for line in waits) == [
        "waiting: queue webhooks is paused",
        "waiting: the broker at 127.0.0.1:1/0 does not answer. " + IS_IT_UP,
        "waiting: topic order_ingest is paused",
    ]
    assert "hold of ada since " in waits[0] + waits[1]
    assert "'count': `celery -A tasks resume` ends it" in done.stderr
    assert "hidden" not in done.output


def test_progress_without_a_terminal_has_no_line_twice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_SECONDS", 0.0)
    with progress.ListProgress() as show:
        for name, done, total in (
            ("catalogue:locations", 1, None), ("catalogue:products", 0, 8), ("levels:1", 0, 8),
            ("catalogue:products", 4, 8), ("catalogue:products", 4, 8), ("levels:1", 8, 8),
            ("catalogue:products", 8, 8), ("catalogue:products", 8, 8), ("orders", 0, None),
        ):  # fmt: skip
            show(name, done, total)
    lines = capsys.readouterr().err.splitlines()

    assert lines == [
        "locations: 1",
        "products: 4 of 8",
        "stock levels: 8 of 8",
        "products: 8 of 8",
        "orders: 0",
    ]


def test_another_shops_domain_is_refused_before_shopify_is_asked(shop: Shops, tmp_path: Path) -> None:
    with transaction(shop.engine) as tx:
        tx.exec_driver_sql(
            "insert into shops (slug, name, timezone, currency) values ('pine', 'P', 'UTC', 'JPY')"
        )
        set_shop(tx, "holed", {"shopify_domain": DOMAIN}, now=utc_now())
    refused = connect("pine", "--from-file", write(tmp_path))

    assert refused.exit_code == 2
    assert f"shopify_domain='{DOMAIN}' is the store of the shop 'holed'" in refused.output
    assert "currency" not in refused.output
