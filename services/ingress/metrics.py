"""``GET /metrics``: the fleet's metrics for Prometheus, read from the database at each scrape.

All processes return the same metrics, so one scrape target is enough, and a restart resets no counter.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import accumulate

from flask import Blueprint, Response, request
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from sqlalchemy import Connection, Engine

from services.alerts.states import RuleStatus, list_rule_status
from services.core.clock import utc_now
from services.core.db import get_engine, transaction
from services.ledger.health import Health, age_seconds, classify_health
from services.ledger.health_check import KEEP_TIMES_COST, CachedCheck, HealthCheck, result_within
from services.ledger.tables import TOTAL
from services.ledger.timings import BOUNDS_SECONDS, split_timings

DEADLINE_SECONDS = 3.0
"""Prometheus waits ten seconds by default; this limit frees the thread sooner."""

FORMER_NAMES = {
    "shopfleet_component_down": "shopfleet_missing",
    "shopfleet_work_locked": "shopfleet_work_in_hand",
    "shopfleet_ledger_broker_drift": "shopfleet_drift",
}
"""Metrics that are also exported under their former name, until 0.3."""

# Totals since the first event, from the few rows that contain them: see ``services.ledger.tables.TOTAL``. Not
# by shop, because the number of shops is unbounded.
_COUNTERS = (
    ("shopfleet_work_settled", "Settled tries.", ("topic", "outcome"), """
select topic, outcome, sum(tries) from work_stats
 cross join lateral (values ('done', done), ('retried', retried), ('dead', dead)) as v(outcome, tries)
 where minute = %(total)s group by topic, outcome
"""),
    ("shopfleet_requests", "Requests answered.", ("provider", "outcome"), """
select provider, outcome, sum(count) from request_counts where minute = %(total)s group by provider, outcome
"""),
)  # fmt: skip

_CONDITIONS = (
    (
        "shopfleet_pauses",
        "Pauses, drains and longer backoffs.",
        "mode",
        ("pauses", "draining"),
        ("hold", "refuse", "drain", "backoff"),
    ),
    (
        "shopfleet_incidents_open",
        "Open incidents.",
        "severity",
        ("p1_open", "p2_open", "p3_open"),
        ("P1", "P2", "P3"),
    ),
    ("shopfleet_connections_broken", "Refused credentials.", "provider", ("connections_broken",), ()),
    (
        "shopfleet_alert_channels_failed",
        "Channels that get no alerts.",
        "channel",
        ("alert_channels_failed",),
        (),
    ),
    ("shopfleet_runs_failed", "Shops whose newest run failed.", "job", ("runs_failed",), ()),
    ("shopfleet_jobs_overdue", "Shops whose run shows no end.", "job", ("jobs_overdue",), ()),
)
"""Name, help, label, kinds of conditions, and the label values that are always present."""

_OF_RULES: tuple[tuple[str, str, Callable[[RuleStatus], float | None]], ...] = (
    ("shopfleet_rule_value", "Figures of the rule, summed over shops.", lambda one: one.value),
    (
        "shopfleet_rule_shops_beyond",
        "Shops with a figure beyond the threshold; the fleet is one.",
        lambda one: one.shops_beyond,
    ),
    (
        "shopfleet_rule_computed_timestamp_seconds",
        "When the rule last had figures.",
        lambda one: one.computed_at.timestamp() if one.computed_at else None,
    ),
    ("shopfleet_rule_incidents_open", "Open incidents of the rule.", lambda one: one.incidents_open),
)

_HISTOGRAMS = {
    "wait": ("shopfleet_work_wait_seconds", "From ready to claimed."),
    "run": ("shopfleet_work_run_seconds", "From claimed to settled, of each item of a batch."),
    "effect": ("shopfleet_work_effect_seconds", "From the receipt of the webhook to the effect."),
}
_TIMINGS = """
select topic, array_agg(total order by n) as timings
  from (select topic, n, sum(value)::bigint as total
          from work_stats cross join unnest(timings) with ordinality as v(value, n)
         where minute = %(total)s group by topic, n) counts
 group by topic order by topic
"""

Samples = Iterable[tuple[Sequence[str], float]]


def read_totals(tx: Connection) -> list[Metric]:
    """Return the counters of settled work and of requests, its histograms, and the figures of the rules."""
    families: list[Metric] = []
    for name, documentation, labels, query in _COUNTERS:
        family = CounterMetricFamily(name, documentation, labels=labels)
        for *values, total in tx.exec_driver_sql(query, {"total": TOTAL}):
            family.add_metric(values, int(total))
        families.append(family)
    families += _read_histograms(tx)
    status = list_rule_status(tx)
    for name, documentation, read in _OF_RULES:
        samples = (([rule], value) for rule, one in status.items() if (value := read(one)) is not None)
        families.append(_gauge(name, documentation, ["rule"], samples))
    return families


def _read_histograms(tx: Connection) -> list[Metric]:
    families = {
        part: HistogramMetricFamily(name, documentation, labels=["topic"])
        for part, (name, documentation) in _HISTOGRAMS.items()
    }
    bounds = [*map(floatToGoString, BOUNDS_SECONDS), "+Inf"]
    for topic, timings in tx.exec_driver_sql(_TIMINGS, {"total": TOTAL}):
        for part, counts, total_seconds in split_timings(timings):
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            families[part].add_metric([topic], buckets, total_seconds)
    return [*families.values()]


class FleetCollector(Collector):
    """Turns one reading of the database into metrics."""

    def __init__(self, probe: HealthCheck, engine: Callable[[], Engine]) -> None:
        self._probe, self._engine = probe, engine
        self._totals = CachedCheck("totals", self._read_totals, keep_times_cost=KEEP_TIMES_COST)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; without the database only its state and the broker's."""
        totals = self._totals.start()
        health, now = self._probe.read(), utc_now()
        for family in _gauges(health, now):
            yield family
            if former := FORMER_NAMES.get(family.name):
                renamed = GaugeMetricFamily(former, f"Former name of {family.name}.")
                renamed.samples = [sample._replace(name=former) for sample in family.samples]
                yield renamed
        yield from result_within(totals, DEADLINE_SECONDS) or [
            CounterMetricFamily(name, documentation, labels=labels)
            for name, documentation, labels, _ in _COUNTERS
        ]

    def _read_totals(self) -> list[Metric]:
        with transaction(self._engine()) as tx:
            return read_totals(tx)


def metrics_blueprint(probe: HealthCheck, engine: Callable[[], Engine] = get_engine) -> Blueprint:
    """Return ``/metrics``, which has no customer data and always answers 200."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(FleetCollector(probe, engine))
    blueprint = Blueprint("metrics", __name__)

    @blueprint.get("/metrics")
    def show_metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    return blueprint


def _gauge(name: str, documentation: str, labels: Sequence[str], samples: Samples) -> Metric:
    family = GaugeMetricFamily(name, documentation, labels=labels)
    for values, number in samples:
        family.add_metric(values, number)
    return family


def _gauges(health: Health, now: datetime) -> Iterator[Metric]:
    latencies = {"database": health.database_latency_ms, "broker": health.broker_latency_ms}
    answered = [([part], ms / 1000) for part, ms in latencies.items() if ms is not None]
    up = [([part], 0 if ms is None else 1) for part, ms in latencies.items()]
    yield _gauge("shopfleet_up", "1 when it answered.", ["part"], up)
    yield _gauge("shopfleet_latency_seconds", "Round trip in seconds.", ["part"], answered)
    yield _gauge(
        "shopfleet_component_down",
        "1 for each component that /health reports as down.",
        ["name"],
        (([name], 1) for name in classify_health(health, now).failing),
    )
    yield _gauge(
        "shopfleet_heartbeat_age_seconds",
        "Since beat, the sweep, or a queue's canary.",
        ["name"],
        (([name], age_seconds(at, now) or 0.0) for name, at in health.heartbeats.items()),
    )
    yield _gauge(
        "shopfleet_ledger_broker_drift",
        "Ledger against broker, as last measured.",
        ["name"],
        (([name], value) for name, value in health.drift.items() if isinstance(value, int | float)),
    )
    labels = ["queue", "topic"]
    topics = [([topic.queue, topic.topic], topic) for topic in health.topics]
    counts = [
        ([*where, status], count)
        for where, topic in topics
        for status, count in (("pending", topic.waiting), ("error", topic.error), ("dead", topic.dead))
    ]
    locked = [(where, topic.locked) for where, topic in topics]
    oldest = [(where, age_seconds(topic.due_since, now) or 0.0) for where, topic in topics]
    yield _gauge("shopfleet_work_items", "Rows that are not final.", [*labels, "status"], counts)
    yield _gauge("shopfleet_work_locked", "Rows that a worker has locked.", labels, locked)
    yield _gauge(
        "shopfleet_work_oldest_age_seconds", "Since the longest-waiting row became ready.", labels, oldest
    )
    for name, documentation, label, kinds, always in _CONDITIONS:
        numbers = dict.fromkeys(always, 0) if health.conditions is not None else {}
        for kind in kinds:
            numbers |= (health.conditions or {}).get(kind, {})
        yield _gauge(name, documentation, [label], (([value], n) for value, n in sorted(numbers.items())))
