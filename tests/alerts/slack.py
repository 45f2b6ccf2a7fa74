"""Helpers that open incidents, and return what Slack gets."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from services.alerts.channels import AlertSendHandler
from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.alerts.notify import record_alerts
from services.core.db import transaction
from tests.fakes.web import Web
from tests.jobs.work import make_due, serve

NOW = datetime(2026, 11, 28, 7, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TOPIC = "alert_send"


def fire(engine: Engine, *incidents: Incident, now: datetime = NOW) -> None:
    with transaction(engine) as tx:
        record_incidents(tx, incidents, now)


def recover(engine: Engine, one: Incident, now: datetime) -> None:
    with transaction(engine) as tx:
        resolve_incident(tx, one.shop_id, one.rule, one.period, now, "It is over.")


def notify(engine: Engine, web: Web, now: datetime) -> list[str]:
    """Return the texts that Slack gets at ``now``."""
    before = len(web.requests)
    with transaction(engine) as tx:
        record_alerts(tx, now)
    make_due(engine, [TOPIC])
    serve(engine, TOPIC, AlertSendHandler())
    return [request.json["text"] for request in web.requests[before:]]


def act(engine: Engine, change: Callable[..., object], now: datetime) -> None:
    with transaction(engine) as tx:
        change(tx, 1, now=now, by="ada", request_id="r")


def failure(shop_id: int | None = None, severity: str = "P2", rule: str = "work_dead:mail_send") -> Incident:
    return Incident(shop_id, rule, "2026-11-28", severity, "3 mail_send dead")
