"""Findings of ``fleet doctor`` about the channels of alerts, the address of the console, and its people."""

import socket
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from services.accounts.people import add_person
from services.accounts.roles import Role
from services.core.db import transaction
from services.fleet.doctor_check import DoctorCheck
from services.fleet.doctor_console import check_alerts, check_console
from tests.fleet.test_doctor_network import OtherAnswers, OurAnswers, Serve, serve, settings
from tests.ledger_rows import NOW

__all__ = ["serve"]


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def find(**given: object) -> dict[str, DoctorCheck]:
    return {one.check: one for one in check_alerts(settings(**given))}


def test_without_a_channel_a_note_names_every_setting() -> None:
    note = find()["alerts"]

    assert (note.ok, note.is_note) == (True, True)
    for name in ("SLACK_WEBHOOK_URL", "ALERT_WEBHOOK_URL", "OPERATOR_EMAIL", "SENTRY_DSN"):
        assert name in note.seen


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("SLACK_WEBHOOK_URL", "http://127.0.0.1:{}/services/hidden"),
        ("ALERT_WEBHOOK_URL", "http://ada:hidden@127.0.0.1:{}/"),
        ("SENTRY_DSN", "http://hidden@127.0.0.1:{}/1"),
    ],
)
def test_the_server_of_each_channel_is_reached_without_a_post(listener: int, name: str, url: str) -> None:
    reached = find(**{name: url.format(listener), "ALLOW_PRIVATE_URLS": "1"})
    away = find(**{name: url.format(1), "ALLOW_PRIVATE_URLS": "1"})

    *checks, summary = reached.values()
    assert [(one.ok, one.seen) for one in checks] == [
        (True, f"127.0.0.1:{listener} answers; nothing was sent")
    ]
    assert "off: " in summary.seen
    (fault,) = (one for one in away.values() if not one.ok)
    assert name in fault.remedy
    assert not any("hidden" in one.seen + one.remedy for one in (*reached.values(), *away.values()))


def test_a_private_address_of_a_channel_is_the_fault_that_a_worker_finds(listener: int) -> None:
    (fault,) = (one for one in find(SLACK_WEBHOOK_URL=f"http://127.0.0.1:{listener}/").values() if not one.ok)

    assert "private address" in fault.seen


def test_the_address_of_the_console_must_reach_one(serve: Serve) -> None:
    def check(**given: object) -> DoctorCheck:
        return next(iter(check_console(settings(**given))))

    assert check().is_note
    assert check(PUBLIC_CONSOLE_URL=f"http://127.0.0.1:{serve(OurAnswers)}").ok
    fault = check(PUBLIC_CONSOLE_URL=f"http://127.0.0.1:{serve(OtherAnswers)}")
    assert (fault.check, fault.ok) == ("console url", False)
    assert "start the console" in fault.remedy


def test_a_fleet_without_an_owner_says_how_to_add_one(engine: Engine) -> None:
    def check() -> DoctorCheck:
        url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return {one.check: one for one in check_console(settings(DATABASE_URL=url))}["people"]

    with transaction(engine) as tx:
        add_person(tx, "bob@example.com", "Bob", {None: Role.VIEWER}, by="test", request_id="", now=NOW)
    assert "fleet users add you@example.com --role owner" in check().remedy
    with transaction(engine) as tx:
        add_person(tx, "ada@example.com", "Ada", {None: Role.OWNER}, by="test", request_id="", now=NOW)
    assert (check().is_note, check().remedy) == (True, "fleet users link ada@example.com (prints a new link)")
    with transaction(engine) as tx:
        tx.exec_driver_sql("update users set password = 'x'")
    assert (check().is_note, check().seen) == (False, "2 in the console, 1 as owner")
