"""Storms: fifty shops with one fault at once, in quiet hours, with a P1 among them, and their end."""

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from services.alerts.notify import GATHER
from services.alerts.quiet import QuietWindow, add_window
from services.core.db import transaction
from tests.alerts.slack import MINUTE, NOW, failure, fire, notify, recover
from tests.fakes.web import Web
from tests.jobs.job_rows import add_shops, runs

SHOPS = 50


@pytest.fixture(autouse=True)
def shops(engine: Engine) -> None:
    add_shops(engine, NOW, **{f"shop{number}": "UTC" for number in range(1, SHOPS + 2)})


def heads(texts: list[str]) -> list[str]:
    """Return the change and the shop or the number of incidents of each message."""
    return [
        f"{line.split('*')[1]}:{line.rpartition('),')[2] or line.rpartition(',')[2]}"
        for line in (text.splitlines()[0] for text in texts)
    ]


def storm(engine: Engine, web: Web, count: int = SHOPS) -> list[str]:
    """One shop after the other fails within five minutes, with a check after each; return what is sent."""
    sent = []
    for number in range(1, count + 1):
        at = NOW + (number - 1) * timedelta(seconds=5)
        fire(engine, failure(number), now=at)
        sent += notify(engine, web, at)
    return sent


def test_fifty_shops_in_five_minutes_are_two_messages_and_a_later_shop_is_one(
    engine: Engine, web: Web
) -> None:
    assert heads(storm(engine, web)) == ["P2 opened: shop1"]
    assert heads(notify(engine, web, NOW + GATHER)) == ["P2 opened: 49 incidents"]
    fire(engine, failure(51), now=NOW + 3 * GATHER)
    assert heads(notify(engine, web, NOW + 3 * GATHER)) == ["P2 opened: shop51"]
    assert notify(engine, web, NOW + 9 * GATHER) == []


def test_the_end_of_a_storm_is_two_messages_too(engine: Engine, web: Web) -> None:
    storm(engine, web)
    notify(engine, web, NOW + GATHER)
    sent = []
    for number in range(1, SHOPS + 1):
        at = NOW + 10 * GATHER + number * timedelta(seconds=5)
        recover(engine, failure(number), at)
        sent += notify(engine, web, at)

    assert heads(sent) == ["P2 recovered: shop1"]
    assert heads(notify(engine, web, NOW + 12 * GATHER)) == ["P2 recovered: 49 incidents"]
    assert notify(engine, web, NOW + 20 * GATHER) == []


def test_a_storm_in_quiet_hours_is_one_message_at_their_end_for_those_that_are_open(
    engine: Engine, web: Web
) -> None:
    hours = QuietWindow(None, daily_from="22:00", daily_until="08:00", zone="UTC")
    with transaction(engine) as tx:
        add_window(tx, hours, now=NOW, by="ada", reason="night", request_id="r")

    assert storm(engine, web) == []
    for number in range(1, 11):
        recover(engine, failure(number), NOW + 30 * MINUTE)
    assert notify(engine, web, NOW + 59 * MINUTE) == []
    assert heads(notify(engine, web, NOW + 60 * MINUTE)) == ["P2 opened: 40 incidents"]
    assert notify(engine, web, NOW + 90 * MINUTE) == []


def test_a_p1_of_a_storm_does_not_wait_and_the_others_are_one_message_with_it(
    engine: Engine, web: Web
) -> None:
    assert heads(storm(engine, web, 20)) == ["P2 opened: shop1"]
    fire(engine, failure(30, "P1"), now=NOW + 2 * MINUTE)
    (text,) = notify(engine, web, NOW + 2 * MINUTE)

    assert heads([text]) == ["P1 opened: shop30"]
    assert heads(notify(engine, web, NOW + 2 * MINUTE + GATHER)) == ["P2 opened: 19 incidents"]


def test_five_thousand_shops_are_one_message_that_slack_takes(engine: Engine, web: Web) -> None:
    with transaction(engine) as tx:
        tx.exec_driver_sql(
            "insert into shops (slug, name, timezone, currency)"
            " select 'shop-' || n || repeat('x', 40), 'n', 'UTC', 'CAD' from generate_series(100, 5099) n"
        )
    fire(engine, *(failure(number)._replace(summary="<!channel>|&\n" * 99) for number in range(52, 5052)))

    (text,) = notify(engine, web, NOW)
    assert heads([text]) == ["P2 opened: 5,000 incidents"]
    assert "and 4990 more" in text
    assert len(text) < 10_000  # Slack cuts a text after 40,000 characters
    assert "<!channel>" not in text
    sizes = runs(engine, "select max(pg_column_size(payload)) from work_queue where topic = 'alert_send'")
    assert sizes[0][0] < 1_000_000
