"""``fleet shops connect``: credentials are checked before they are stored; then everything is read."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.cli import shops_connect, wait_for_workers
from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import RetryLater
from services.core.settings import get_settings
from services.shopify.backfill.run import backfill_shopify
from services.shopify.subscriptions.plan import WANTED
from services.shops.secrets import list_secret_states
from services.shops.shops import get_shop, set_shop
from tests.alerts.linked import LINK, list_actions, open_incident
from tests.shopify.backfill.fake_shop import DOMAIN, TOKEN, Shops, control, put_order, work_off
from tests.shopify.backfill.sample_day import CURRENCY
from tests.shopify.backfill.test_first_contact import ALL, OLD, counts, stock_catalogue

CLIENT_SECRET = "shpss_" + "0b" * 16
SCOPES = ["read_orders", "read_products", "read_inventory", "read_locations"]


@pytest.fixture
def shop(shops: Shops) -> Shops:
    """``holed`` without secrets and domain; Shopify's settings of it are its own."""
    with transaction(shops.engine) as tx:
        tx.exec_driver_sql("delete from shop_secrets where name = 'shopify-token'")
        tx.exec_driver_sql("update shop_config set shopify_domain = ''")
    describe(shops)
    stock_catalogue(shops)
    return shops


def describe(shops: Shops, **changes: str) -> None:
    """Set the shop's settings at Shopify, by default those that it has here."""
    with transaction(shops.engine) as tx:
        ours = get_shop(tx, "holed")
    body = {"id": 1, "currency": ours.currency, "iana_timezone": ours.timezone} | changes
    body |= {"myshopify_domain": changes.get("myshopify_domain", DOMAIN)}
    control(shops.url, shop=DOMAIN, webhooks=[{"topic": "shop/update", "body": body}])


@contextmanager
def workers(shops: Shops) -> Iterator[None]:
    """Process work in the background, as the workers do."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.05):
            work_off(shops.engine)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def write(path: Path, **changes: str) -> Path:
    lines = {"shopify-domain": DOMAIN, "shopify-token": TOKEN, "shopify-webhook": CLIENT_SECRET}
    lines |= {name.replace("_", "-"): value for name, value in changes.items()}
    file = path / "harbour.secrets"
    file.write_text("# of harbour\n\n" + "".join(f"{name} = {value}\n" for name, value in lines.items()))
    file.chmod(0o600)
    return file


def connect(*arguments: object, answer: str | None = None) -> Result:
    return CliRunner().invoke(main, ["shops", "connect", *map(str, arguments)], input=answer)


def secrets(shops: Shops) -> set[str]:
    with transaction(shops.engine) as tx:
        return {state.name for state in list_secret_states(tx, shops.holed, utc_now())}


def test_shop_is_connected_and_its_old_catalogue_known(shop: Shops, tmp_path: Path) -> None:
    put_order(shop, OLD, 1)
    open_incident(shop.engine)
    with workers(shop):
        done = connect("holed", "--from-file", write(tmp_path), *LINK)
    assert list_actions(shop.engine) == [("ada", f"connects holed to {DOMAIN}")]

    assert done.exit_code == 0, done.output
    assert "complete: 20 products, 80 levels" in done.output
    assert f"{DOMAIN} accepts the token: {CURRENCY}" in done.output
    assert "PUBLIC_URL is empty" in done.output
    assert "of the orders before" in done.output
    assert TOKEN not in done.output
    assert CLIENT_SECRET not in done.output
    assert counts(shop) == ALL
    assert {"shopify-token", "shopify-webhook"} <= secrets(shop)
    with transaction(shop.engine) as tx:
        assert get_shop(tx, "holed").shopify_domain == DOMAIN


def test_connected_shop_is_connected_again_without_a_prompt(
    shop: Shops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBLIC_URL", "https://hooks.example.com")
    get_settings.cache_clear()
    with workers(shop):
        first = connect("holed", "--from-file", write(tmp_path), "--json")
        again = connect("holed", "--json")

    assert first.exit_code == again.exit_code == 0, first.output + again.output
    found = json.loads(again.stdout)
    assert (found["complete"], found["products"], found["levels"]) == (True, 20, 80)
    assert found["recorded"] == {}
    assert set(found["subscriptions"]["good"]) == set(WANTED)
    assert json.loads(first.stdout)["subscriptions"]["made"] == sorted(WANTED)


def test_orders_that_the_scopes_hide_are_named(shop: Shops, tmp_path: Path) -> None:
    control(shop.url, shop=DOMAIN, scopes=SCOPES)
    with workers(shop):
        done = connect("holed", "--from-file", write(tmp_path))

    assert done.exit_code == 0
    assert done.output.rstrip().endswith("cannot be read: grant read_all_orders")


@pytest.mark.parametrize(
    ("at_shopify", "scopes", "named"),
    [
        ({"currency": "EUR"}, SCOPES, ["currency='", "is 'EUR' at Shopify"]),
        ({"iana_timezone": "Europe/Paris"}, SCOPES, ["`fleet shops set holed timezone=Europe/Paris`"]),
        ({"myshopify_domain": "other.myshopify.com"}, SCOPES, ["which is 'other.myshopify.com'"]),
        ({}, ["read_orders", "write_products"], ["lacks read_inventory, read_locations:"]),
        ({"currency": "EUR"}, [], ["currency='", "lacks read_orders, read_products"]),
    ],
)  # fmt: skip
def test_credentials_that_do_not_fit_the_shop_are_named_and_not_stored(
    shop: Shops, tmp_path: Path, at_shopify: dict[str, str], scopes: list[str], named: list[str]
) -> None:
    describe(shop, **at_shopify)
    control(shop.url, shop=DOMAIN, scopes=scopes)

    refused = connect("holed", "--from-file", write(tmp_path))

    assert refused.exit_code == 2
    assert [text for text in named if text not in refused.output] == []
    assert secrets(shop) == {"stripe-key"}
    with transaction(shop.engine) as tx:
        assert get_shop(tx, "holed").shopify_domain == ""


def test_token_that_shopify_refuses_is_not_stored(shop: Shops, tmp_path: Path) -> None:
    control(shop.url, shop=DOMAIN, token="shpat_" + "ff" * 16)

    refused = connect("holed", "--from-file", write(tmp_path))

    assert refused.exit_code == 1
    assert "nothing was stored: check shopify-token and the domain" in refused.output
    assert secrets(shop) == {"stripe-key"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"shopify_token": "shpss_" + "0c" * 16}, "shopify-token looks like a Shopify client secret"),
        ({"shopify_domain": "harbour.example"}, "shopify_domain='harbour.example' should be"),
        ({"shopify_tokken": "x1y2z3"}, "line 6 has an unknown name; did you mean 'shopify-token'?"),
        (
            {"shopify_token": "shpss_" + "0c" * 16, "shopify_webhook": "a b"},
            "2 faults:\n  shopify-token looks like a Shopify client secret (shpss_...): it should be the "
            "Admin API access token, which begins with shpat_\n  shopify-webhook contains white space",
        ),
        ({"a": "x1y2z3", "b": "x1y2z3"}, "2 faults:\n  line 6 has an unknown name\n  line 7 has an"),
    ],
)
def test_wrong_value_in_the_file_is_named_and_never_shown(
    shop: Shops, tmp_path: Path, changes: dict[str, str], named: str
) -> None:
    refused = connect("holed", "--from-file", write(tmp_path, **changes))

    assert refused.exit_code == 2
    assert named in refused.output
    assert "0c0c" not in refused.output
    assert "x1y2z3" not in refused.output
    assert secrets(shop) == {"stripe-key"}


def test_another_domain_than_the_recorded_one_needs_a_yes(shop: Shops, tmp_path: Path) -> None:
    with transaction(shop.engine) as tx:
        set_shop(tx, "holed", {"shopify_domain": "former.myshopify.com"}, now=utc_now())

    refused = connect("holed", "--from-file", write(tmp_path))
    with transaction(shop.engine) as tx:
        kept = get_shop(tx, "holed").shopify_domain
    with workers(shop):
        done = connect("holed", "--from-file", write(tmp_path), "-f")

    assert refused.exit_code == 2
    assert f"holed is connected to former.myshopify.com: connect it to {DOMAIN} instead?" in refused.output
    assert kept == "former.myshopify.com"
    assert done.exit_code == 0, done.output
    assert f"shopify_domain of holed: former.myshopify.com -> {DOMAIN}" in done.output
    changes = "select before, after from audit_mutations order by event_id, place"
    with transaction(shop.engine) as tx:
        summaries = tx.exec_driver_sql(changes).all()
    assert [(before["shopify_domain"], after["shopify_domain"]) for before, after in summaries
            if before and "shopify_domain" in before][-1] == ("former.myshopify.com", DOMAIN)  # fmt: skip


def test_a_dry_run_checks_the_credentials_and_stores_nothing(shop: Shops, tmp_path: Path) -> None:
    planned = connect("holed", "--from-file", write(tmp_path), "--dry-run")

    assert planned.exit_code == 0, planned.output
    assert f"{DOMAIN} accepts the token" in planned.output
    assert "nothing was stored" in planned.output
    assert secrets(shop) == {"stripe-key"}
    with transaction(shop.engine) as tx:
        assert get_shop(tx, "holed").shopify_domain == ""


def test_missing_credentials_are_named_without_a_terminal(shop: Shops) -> None:
    refused = connect("holed")

    assert refused.exit_code == 2
    assert "shopify-domain (such as harbour.myshopify.com) is not recorded" in refused.output


def test_file_that_others_can_read_is_noted(shop: Shops, tmp_path: Path) -> None:
    file = write(tmp_path, shopify_token="x")
    file.chmod(0o644)

    assert f"chmod 600 {file}" in connect("holed", "--from-file", file).output


def test_shop_without_workers_names_what_waits(shop: Shops, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(wait_for_workers, "STALLED_AFTER_SECONDS", 0.0)
        done = connect("holed", "--from-file", write(tmp_path))

    assert done.exit_code == 1
    assert "142 objects wait for a worker of the queue webhooks at holed" in done.output
    with workers(shop):
        assert "complete: 20 products, 80 levels" in connect("holed").output


@pytest.mark.parametrize(("failures", "exit_code"), [(4, 0), (5, 1)])
def test_failed_calls_are_repeated_up_to_five_times(
    shop: Shops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int, exit_code: int
) -> None:
    monkeypatch.setattr(shops_connect, "_RETRY_AFTER_SECONDS", 0.0)
    left = failures

    def fail_first(*arguments: Any, **more: Any) -> Any:
        nonlocal left
        left -= 1
        if left >= 0:
            raise RetryLater("shopify.unavailable", "HTTP 503")
        return backfill_shopify(*arguments, **more)

    monkeypatch.setattr(shops_connect, "backfill_shopify", fail_first)
    with workers(shop):
        done = connect("holed", "--from-file", write(tmp_path))

    assert done.exit_code == exit_code, done.output
    assert ("run `fleet shops connect holed` again" in done.output) == (exit_code == 1)
