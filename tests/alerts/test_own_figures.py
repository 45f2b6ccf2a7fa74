"""Each figure counts what its rule is about, and nothing just outside."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, text

from services.alerts.evaluate import NOT_COMPUTED, describe
from services.alerts.figures import Figure
from services.alerts.incidents import Incident, record_incidents
from services.alerts.own_figures import collect_figures
from services.alerts.rules import FIGURE_RULES
from services.ledger.accept import record_work
from services.ledger.heartbeats import record_beat
from services.ledger.tables import TOTAL
from services.ledger.work import FLEET, NewWork

NOW = datetime(2026, 11, 28, 7, tzinfo=UTC)
SECOND, MINUTE, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def a_statement(tx: Connection) -> None:
    """Without a statement nobody knows whether the database is slow."""
    insert = "insert into statement_stats values (:at, 'ingress', 'select x', 1, 3, '{0,0,1}')"
    run(tx, insert, at=NOW - MINUTE)


@pytest.fixture
def shop_id(tx: Connection) -> int:
    add = "insert into shops (slug, name, timezone, currency) values ('acme', 'A', 'UTC', 'CAD') returning id"
    return int(tx.execute(text(add)).scalar_one())


def run(tx: Connection, statement: str, **values: object) -> None:
    tx.execute(text(statement), values)


def collect(tx: Connection, rule: str) -> list[tuple[float, int, str]]:
    """Return the figures of ``rule`` at ``NOW``; check that each summary can be written from them."""
    figures = collect_figures(tx, NOW)
    assert figures.keys() <= FIGURE_RULES.keys() - {NOT_COMPUTED}
    for name, ones in figures.items():
        for one in ones:
            assert describe(FIGURE_RULES[name], FIGURE_RULES[name].threshold, one)
    return [(round(one.value, 3), one.shop_id, one.subject) for one in sorted(figures[rule], key=_place)]


def _place(figure: Figure) -> tuple[int, str]:
    return figure.shop_id, figure.subject


STATUS = {"accepted": 200, "duplicate": 200, "unavailable": 503, "paused": 503, "invalid_signature": 401}


def count_requests(
    tx: Connection, at: datetime, *, shop: str = "acme", provider: str = "stripe", **by_outcome: int
) -> None:
    for outcome, number in by_outcome.items():
        insert = (
            "insert into request_counts (minute, shop, provider, outcome, route, status, count)"
            " values (:at, :shop, :provider, :outcome, '/webhooks/' || :provider, :status, :count)"
        )
        values = {"shop": shop, "provider": provider, "outcome": outcome, "status": STATUS[outcome]}
        run(tx, insert, at=at, count=number, **values)


def count_pages(tx: Connection, route: str, outcome: str = "answered", **by_status: int) -> None:
    for status, number in by_status.items():
        insert = (
            "insert into request_counts (minute, shop, provider, outcome, route, status, count)"
            " values (:at, '?', '', :outcome, :route, :status, :count)"
        )
        values = {"outcome": outcome, "route": route, "status": int(status.removeprefix("status_"))}
        run(tx, insert, at=NOW - MINUTE, count=number, **values)


def test_failed_requests_are_a_share_of_the_last_five_minutes(tx: Connection, shop_id: int) -> None:
    count_requests(tx, NOW - MINUTE, accepted=90, duplicate=5, unavailable=5)
    count_requests(tx, NOW - 5 * MINUTE, unavailable=50)

    assert collect(tx, "requests_failed") == [(5.0, shop_id, "/webhooks/stripe")]


def test_failed_pages_are_a_share_of_their_route(tx: Connection) -> None:
    count_pages(tx, "/cron/<job>", status_202=95, status_500=2, status_503=3)
    count_pages(tx, "/", status_200=10, status_404=10)

    assert collect(tx, "requests_failed") == [(5.0, FLEET, "/cron/<job>")]


def test_a_health_page_of_a_fleet_that_is_down_has_not_failed(tx: Connection) -> None:
    count_pages(tx, "/health", "health", status_503=10)

    assert collect(tx, "requests_failed") == []


def test_paused_requests_have_not_failed(tx: Connection, shop_id: int) -> None:
    count_requests(tx, NOW - MINUTE, paused=50)

    assert collect(tx, "requests_failed") == []


def test_requests_to_unknown_shops_belong_to_the_fleet(tx: Connection) -> None:
    count_requests(tx, NOW - MINUTE, shop="?", provider="?", unavailable=1)

    assert collect(tx, "requests_failed") == [(100.0, FLEET, "/webhooks/?")]


def test_totals_since_the_first_event_do_not_count(tx: Connection, shop_id: int) -> None:
    count_requests(tx, TOTAL, shop="", unavailable=9)

    assert collect(tx, "requests_failed") == []


def test_wrong_signatures_are_counted_for_an_hour(tx: Connection, shop_id: int) -> None:
    count_requests(tx, NOW - 59 * MINUTE, invalid_signature=4, accepted=9)
    count_requests(tx, NOW - 60 * MINUTE, invalid_signature=7)

    assert collect(tx, "signature_failures") == [(4.0, shop_id, "stripe")]


@pytest.mark.parametrize(
    ("locked_at", "lease_until", "stuck"),
    [
        (NOW - 16 * MINUTE, NOW - SECOND, 1),
        (NOW - 16 * MINUTE, None, 1),
        (NOW - 16 * MINUTE, NOW + SECOND, 0),
        (NOW - 14 * MINUTE, NOW - SECOND, 0),
        (None, None, 0),
    ],
    ids=["lease ended", "no lease", "lease holds", "young", "not locked"],
)
def test_a_lock_is_stuck_when_it_is_old_and_its_lease_has_ended(
    tx: Connection, locked_at: datetime | None, lease_until: datetime | None, stuck: int
) -> None:
    record_work(tx, [NewWork(shop_id=1, topic="mail_send", key="1")], NOW)
    values = {"at": locked_at, "until": lease_until}
    run(tx, "update work_queue set locked_at = :at, lease_until = :until", **values)

    assert collect(tx, "locks_stuck") == [(1.0, FLEET, "mail_send")] * stuck


def connect(tx: Connection, shop_id: int | None, provider: str, **values: Any) -> None:
    row: Mapping[str, Any] = {"status": "ok", "token": None, "refresh": None} | values
    run(
        tx,
        "insert into connections (shop_id, provider, status, code, since, updated_at, token_expires_at,"
        " refresh_expires_at)"
        " values (:shop_id, :provider, :status, 'x.refused', :now, :now, :token, :refresh)",
        shop_id=shop_id,
        provider=provider,
        now=NOW,
        **row,
    )


def test_broken_connections_are_figures_of_their_shop(tx: Connection, shop_id: int) -> None:
    connect(tx, shop_id, "stripe", status="broken")
    connect(tx, None, "smtp", status="broken")
    connect(tx, shop_id, "quo")

    assert collect(tx, "connection_broken") == [(1.0, FLEET, "smtp"), (1.0, shop_id, "stripe")]


def test_a_credential_ends_with_its_refresh_token_or_else_by_itself(tx: Connection, shop_id: int) -> None:
    connect(tx, shop_id, "a", token=NOW + 13 * DAY)
    connect(tx, shop_id, "b", token=NOW + DAY, refresh=NOW + 80 * DAY)
    connect(tx, shop_id, "c")
    connect(tx, shop_id, "d", status="broken", token=NOW - DAY)
    connect(tx, shop_id, "e", token=NOW + DAY)  # renews itself, for a time that nobody knows
    tx.execute(
        text("insert into shop_secrets (shop_id, name, sealed) values (:shop, 'e-refresh-token', '')"),
        {"shop": shop_id},
    )

    assert collect(tx, "credential_expires") == [(13.0, shop_id, "a"), (80.0, shop_id, "b")]


def test_a_token_that_renews_itself_ages_past_its_end_by_its_life(tx: Connection, shop_id: int) -> None:
    def add(name: str, created_at: datetime) -> None:
        insert = (
            "insert into shop_secrets (shop_id, name, sealed, created_at) values (:shop_id, :name, 'x', :at)"
        )
        run(tx, insert, shop_id=shop_id, name=name, at=created_at)

    connect(tx, shop_id, "shopify", token=NOW - 40 * MINUTE)
    connect(tx, shop_id, "stripe", token=NOW - DAY)  # does not renew itself
    add("shopify-token", NOW - 120 * MINUTE)
    assert collect(tx, "refresh_failing") == []
    add("shopify-refresh-token", NOW - 120 * MINUTE)

    assert collect(tx, "refresh_failing") == [(0.5, shop_id, "shopify")]
    assert not FIGURE_RULES["refresh_failing"].is_beyond(0.5, 0.5)
    run(tx, "update connections set token_expires_at = :at", at=NOW - 39 * MINUTE)
    assert collect(tx, "refresh_failing") == [(0.481, shop_id, "shopify")]
    run(tx, "update connections set token_expires_at = :at", at=NOW + MINUTE)
    assert collect(tx, "refresh_failing") == []


def test_the_oldest_secret_in_use_counts_and_a_replaced_one_does_not(tx: Connection, shop_id: int) -> None:
    for name, days, expires_at in (
        ("stripe-key", 91, NOW + DAY),  # replaced
        ("stripe-key", 3, None),
        ("shopify-token", 40, None),
    ):
        values = {"shop_id": shop_id, "name": name, "at": NOW - days * DAY, "expires_at": expires_at}
        insert = (
            "insert into shop_secrets (shop_id, name, sealed, created_at, expires_at)"
            " values (:shop_id, :name, 'x', :at, :expires_at)"
        )
        run(tx, insert, **values)

    assert collect(tx, "secret_old") == [(40.0, shop_id, "")]


def test_an_open_reconciliation_break_gets_older(tx: Connection, shop_id: int) -> None:
    days = [Incident(shop_id, "reconciliation_break", f"2026-11-2{n}", "P2", "2 breaks") for n in (2, 3)]
    record_incidents(tx, days, NOW - 4 * DAY)
    run(tx, "update incidents set status = 'resolved' where period = '2026-11-22'")

    assert collect(tx, "break_old") == [(4.0, shop_id, "2026-11-23")]


def test_the_database_has_a_size(tx: Connection) -> None:
    ((size_gb, shop_id, _),) = collect(tx, "database_large")

    assert 0.001 < size_gb < 10
    assert shop_id == FLEET


def test_refused_mails_of_a_day_are_counted_by_shop(tx: Connection, shop_id: int) -> None:
    mails = ((shop_id, "refused", 23), (shop_id, "refused", 25), (shop_id, "sent", 1), (None, "refused", 1))
    for number, (of, status, hours) in enumerate(mails):
        insert = (
            "insert into mail_outbox (shop_id, dedupe_key, kind, period, recipient, subject, text, html,"
            " status, error_code, created_at)"
            " values (:of, :key, 'k', 'p', 'a@b.c', 's', 't', 'h', :status, 'mail.refused', :at)"
        )
        values = {"of": of, "key": str(number), "status": status, "at": NOW - timedelta(hours=hours)}
        run(tx, insert, **values)

    assert collect(tx, "mails_refused") == [(1.0, FLEET, ""), (1.0, shop_id, "")]


def beat(tx: Connection, name: str, at: datetime, detail: str = "{}") -> None:
    insert = "insert into heartbeats (name, at, detail) values (:name, :at, cast(:detail as jsonb))"
    run(tx, insert, name=name, at=at, detail=detail)


def test_drift_is_read_while_it_is_measured(tx: Connection) -> None:
    beat(tx, "drift", NOW - MINUTE, '{"webhooks": 1500, "email": -2}')
    assert collect(tx, "ledger_broker_drift") == [(-2.0, FLEET, "email"), (1500.0, FLEET, "webhooks")]

    run(tx, "update heartbeats set at = :at", at=NOW - 11 * MINUTE)
    assert collect(tx, "ledger_broker_drift") == []


def test_a_dead_beat_is_one_figure_and_not_one_for_each_worker(tx: Connection) -> None:
    for name in ("sweep", "queue:email", "queue:webhooks"):
        beat(tx, name, NOW - 10 * MINUTE)
    record_beat(tx, NOW - 10 * MINUTE, is_refused=False)

    assert collect(tx, "heartbeat_old") == [(600.0, FLEET, "beat")]
    assert collect(tx, "worker_not_consuming") == []


def test_a_broker_that_takes_no_message_of_beat_is_one_figure(tx: Connection) -> None:
    record_beat(tx, NOW - 20 * MINUTE, is_refused=False)
    run(tx, "update heartbeats set at = :at", at=NOW - 5 * MINUTE)
    record_beat(tx, NOW - SECOND, is_refused=True)
    beat(tx, "sweep", NOW - 5 * MINUTE)

    assert collect(tx, "heartbeat_old") == [(300.0, FLEET, "broker")]


def test_a_worker_that_answers_no_canary_is_one_figure_and_queues_without_one_are_another(
    tx: Connection,
) -> None:
    record_beat(tx, NOW - 20 * MINUTE, is_refused=False)
    run(tx, "update heartbeats set at = :at", at=NOW)
    beat(tx, "sweep", NOW - SECOND)
    beat(tx, "queue:email", NOW - 5 * MINUTE, '{"worker": "outbound@vm:12"}')
    beat(tx, "queue:sync", NOW - 4 * MINUTE, '{"worker": "outbound@vm:13"}')
    beat(tx, "queue:webhooks", NOW - SECOND)

    assert collect(tx, "worker_not_consuming") == [(1200.0, FLEET, ""), (300.0, FLEET, "outbound@vm")]
    assert collect(tx, "heartbeat_old") == []


def test_a_fleet_that_never_ran_has_no_figures_of_heartbeats(tx: Connection) -> None:
    assert collect(tx, "worker_not_consuming") == []
    assert collect(tx, "heartbeat_old") == []
