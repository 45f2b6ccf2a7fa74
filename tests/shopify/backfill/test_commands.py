"""The commands ``fleet backfill`` and ``fleet shopify``."""

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

from services.cli.main import main
from services.core.settings import get_settings
from services.shopify.subscriptions.plan import WANTED
from tests.alerts.linked import LINK, list_actions, open_incident
from tests.shopify.backfill.fake_shop import (
    DOMAIN,
    STRIPE_KEY,
    Shops,
    contents,
    control,
    count_backfill,
    receive,
    work_off,
)
from tests.shopify.backfill.sample_day import drop_a_third, make_day
from tests.shopify.sample_payloads import add_shop


def run(*arguments: str) -> Result:
    group = "shopify" if "subscriptions" in arguments else "backfill"
    return CliRunner().invoke(main, [group, *arguments])


def read(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def live(shops: Shops) -> None:
    day = make_day(1)
    receive(shops.engine, shops.whole, day.webhooks)
    receive(shops.engine, shops.holed, drop_a_third(day, 1))
    control(shops.url, shop=DOMAIN, webhooks=day.shopify_webhooks())
    control(shops.url, stripe_key=STRIPE_KEY, events=day.stripe_events())


def test_run_records_what_a_dry_run_counted(shops: Shops) -> None:
    live(shops)

    counted = read("run", "--shop", "holed", "--dry-run")

    assert count_backfill(shops.engine, shops.holed) == 0
    assert run("status", "--shop", "holed").output.startswith("Nothing was read yet")
    done = read("run", "--shop", "holed")
    work_off(shops.engine)
    assert done["providers"][0] == counted["providers"][0]
    assert contents(shops.engine, shops.holed) == contents(shops.engine, shops.whole)
    assert {one["stream"] for one in read("status", "--shop", "holed")} >= {
        "orders",
        "products",
        "events",
    }
    assert "Nothing recorded." in run("run", "--shop", "holed").output


def test_run_that_a_provider_refuses_names_it_and_fails(shops: Shops) -> None:
    control(shops.url, shop=DOMAIN, token="shpat_" + "ff" * 16)

    result = run("run", "--shop", "holed")

    assert result.exit_code == 1
    assert "shopify: shopify.token_refused" in result.output
    assert "stripe: backfilled" in result.output


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_shop_without_credentials_is_told_what_is_missing(engine: Engine, more: tuple[str, ...]) -> None:
    add_shop(engine, domain="")
    shown = run("run", "--shop", "harbour", *more)
    shopify, stripe = read("run", "--shop", "harbour", *more)["providers"]

    assert shown.exit_code == 0
    missing = "no shopify_domain and no shopify-token: fleet shops connect harbour"
    key = "no stripe-key: fleet shops secret harbour stripe-key --stdin"
    assert f"shopify: not_connected, {missing}\n" in shown.output
    assert f"stripe: not_connected, {key}\n" in shown.output
    assert (shopify["to_do"], stripe["to_do"]) == (missing, key)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--shop", "nowhere"),
        ("run", "--shop", "holed", "--since", "soon"),
        ("status", "--shop", "nowhere"),
    ],
)
def test_wrong_argument_is_wrong_usage(shops: Shops, arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_subscriptions_are_shown_and_created_with_a_public_url(
    shops: Shops, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(read("subscriptions", "--shop", "holed")["missing"]) == set(WANTED)
    refused = run("subscriptions", "--shop", "holed", "--create")
    assert refused.exit_code == 1
    assert "PUBLIC_URL" in refused.output
    monkeypatch.setenv("PUBLIC_URL", "https://hooks.example.com")
    get_settings.cache_clear()

    assert read("subscriptions", "--shop", "holed", "--create", "--dry-run")["made"] == []
    open_incident(shops.engine)
    made = read("subscriptions", "--shop", "holed", "--create", *LINK)
    assert list_actions(shops.engine) == [("ada", "creates subscriptions of holed")]

    assert made["made"] == sorted(WANTED)
    assert set(read("subscriptions", "--shop", "holed")["good"]) == set(WANTED)
    assert "good" in run("subscriptions", "--shop", "holed").output


@pytest.mark.parametrize("command", [(), ("run",), ("status",), ("subscriptions",)])
def test_every_command_has_an_example(command: tuple[str, ...]) -> None:
    assert "Example" in run(*command, "--help").output
