"""``GET /metrics``: the fleet's metrics for Prometheus, read from the database at each scrape.

All processes answer the same, so one scrape target is enough, and a restart resets no counter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy import Connection, Engine, text

from services.core.clock import utc_now
from services.core.db import get_engine, transaction
from services.ledger.health import Health, age_seconds, classify_health
from services.ledger.health_check import KEEP_TIMES_COST, CachedCheck, HealthCheck, result_within

DEADLINE_SECONDS = 3.0
"""Prometheus allows ten seconds by default; the thread here is free again sooner."""


FORMER_NAMES = {
    "shopfleet_component_down": "shopfleet_missing",
    "shopfleet_work_locked": "shopfleet_work_in_hand",
    "shopfleet_ledger_broker_drift": "shopfleet_drift",
}
"""Metrics whose former name is still exported, with the same samples. It goes in 0.3."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals since the start. To prune their tables, merge old minutes into one row: Prometheus takes a
    smaller counter for a restart, and counts its value again."""

    settled: dict[tuple[str, str], int]
    """By topic and outcome: ``done``, ``retried``, ``dead``."""
    requests: dict[tuple[str, str], int]
    """By provider and outcome; never by shop, as their number is unbounded."""


def read_totals(tx: Connection) -> Totals:
    """Return the totals of settled work and of requests."""
    settled = {}
    for topic, *counts in tx.execute(
        text("select topic, sum(done), sum(retried), sum(dead) from work_stats group by topic")
    ):
        for outcome, count in zip(("done", "retried", "dead"), counts, strict=True):
            settled[topic, outcome] = int(count)
    requests = {
        (provider, outcome): int(count)
        for provider, outcome, count in tx.execute(
            text("select provider, outcome, sum(count) from request_counts group by provider, outcome")
        )
    }
    return Totals(settled, requests)


class FleetCollector(Collector):
    """Turns one reading of the database into metrics."""

    def __init__(self, probe: HealthCheck, engine: Callable[[], Engine] = get_engine) -> None:
        self._probe = probe
        self._engine = engine
        self._totals = CachedCheck("totals", self._read_totals, keep_times_cost=KEEP_TIMES_COST)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; without the database, only that it is down."""
        totals = self._totals.start()
        health, now = self._probe.read(), utc_now()
        for family in (*_components(health, now), *_work(health, now)):
            yield family
            if family.name in FORMER_NAMES:
                yield _renamed(family, FORMER_NAMES[family.name])
        yield from _conditions(health)
        yield from _totals(result_within(totals, DEADLINE_SECONDS) or Totals({}, {}))

    def _read_totals(self) -> Totals:
        with transaction(self._engine()) as tx:
            return read_totals(tx)


def metrics_blueprint(probe: HealthCheck, engine: Callable[[], Engine] = get_engine) -> Blueprint:
    """Return ``/metrics``. It has no customer data, and always answers 200."""
    registry = CollectorRegistry(auto_describe=False)
    collector = FleetCollector(probe, engine)
    registry.register(collector)
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def show_metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    return blueprint


def _renamed(family: Metric, name: str) -> Metric:
    former = GaugeMetricFamily(name, f"Former name of {family.name}.")
    former.samples = [sample._replace(name=name) for sample in family.samples]
    return former


def _components(health: Health, now: datetime) -> Iterator[Metric]:
    up = GaugeMetricFamily("shopfleet_up", "1 when it answered.", labels=["part"])
    latency = GaugeMetricFamily("shopfleet_latency_seconds", "Round trip in seconds.", labels=["part"])
    for part, milliseconds in (
        ("database", health.database_latency_ms),
        ("broker", health.broker_latency_ms),
    ):
        up.add_metric([part], 0 if milliseconds is None else 1)
        if milliseconds is not None:
            latency.add_metric([part], milliseconds / 1000)
    missing = GaugeMetricFamily(
        "shopfleet_component_down", "1 for each component that /health reports as down.", labels=["name"]
    )
    for name in classify_health(health, now).missing:
        missing.add_metric([name], 1)
    beats = GaugeMetricFamily(
        "shopfleet_heartbeat_age_seconds", "Since beat, the sweep, or a queue's canary.", labels=["name"]
    )
    for name, at in health.heartbeats.items():
        beats.add_metric([name], age_seconds(at, now) or 0.0)
    drift = GaugeMetricFamily(
        "shopfleet_ledger_broker_drift", "Ledger against broker, as last measured.", labels=["name"]
    )
    for name, value in health.drift.items():
        if isinstance(value, int | float):
            drift.add_metric([name], value)
    yield from (up, latency, missing, beats, drift)


_CONDITIONS = (
    ("shopfleet_pauses", "Pauses and drains.", "mode", ("pauses", "draining"), ("hold", "refuse", "drain")),
    (
        "shopfleet_incidents_open",
        "Open incidents.",
        "severity",
        ("p1_open", "p2_open", "p3_open"),
        ("P1", "P2", "P3"),
    ),
    ("shopfleet_connections_broken", "Refused credentials.", "provider", ("connections_broken",), ()),
    ("shopfleet_runs_failed", "Shops whose newest run failed.", "job", ("runs_failed",), ()),
    ("shopfleet_jobs_overdue", "Shops whose run shows no end.", "job", ("jobs_overdue",), ()),
)
"""Name, help, label, kinds of conditions, and the label values that are always present."""


def _conditions(health: Health) -> Iterator[Metric]:
    for name, documentation, label, kinds, always in _CONDITIONS:
        family = GaugeMetricFamily(name, documentation, labels=[label])
        if health.conditions is not None:
            counts = dict.fromkeys(always, 0)
            for kind in kinds:
                counts |= health.conditions.get(kind, {})
            for value, count in sorted(counts.items()):
                family.add_metric([value], count)
        yield family


def _work(health: Health, now: datetime) -> Iterator[Metric]:
    labels = ["queue", "topic"]
    items = GaugeMetricFamily("shopfleet_work_items", "Rows that are not final.", labels=[*labels, "status"])
    locked = GaugeMetricFamily("shopfleet_work_locked", "Rows that a worker has locked.", labels=labels)
    oldest = GaugeMetricFamily(
        "shopfleet_work_oldest_age_seconds", "Since the longest-waiting row became ready.", labels=labels
    )
    for topic in health.topics:
        where = [topic.queue, topic.topic]
        for status in ("pending", "error", "dead"):
            count = topic.waiting if status == "pending" else getattr(topic, status)
            items.add_metric([*where, status], count)
        locked.add_metric(where, topic.locked)
        oldest.add_metric(where, age_seconds(topic.due_since, now) or 0.0)
    yield from (items, locked, oldest)


def _totals(totals: Totals) -> Iterator[Metric]:
    settled = CounterMetricFamily("shopfleet_work_settled", "Settled tries.", labels=["topic", "outcome"])
    for labels, count in totals.settled.items():
        settled.add_metric(labels, count)
    requests = CounterMetricFamily("shopfleet_requests", "Requests answered.", labels=["provider", "outcome"])
    for labels, count in totals.requests.items():
        requests.add_metric(labels, count)
    yield from (settled, requests)
