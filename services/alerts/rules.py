"""The rules: what opens an incident, how severe it is, and how it recovers. Pure.

A rule is *recorded* by the room that finds the fault, or *evaluated* from a figure: see
``services.alerts.evaluate``. ``docs/alerts.md`` has a section for each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

from services.alerts.recorded_rules import RECORDED

NOW = timedelta(0)
MINUTES_10, MINUTES_15, MINUTES_30 = timedelta(minutes=10), timedelta(minutes=15), timedelta(minutes=30)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

BY_CAUSE = "when the cause is gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One rule. ``severity`` is P1 (act now), P2 (act today) or P3 (act when there is time)."""

    name: str
    severity: str
    about: str
    """What is wrong, for a table."""
    recovers: str = BY_CAUSE
    action: str = ""
    """What a person does first: commands, or a page; empty: ``docs/operations.md`` has it by name."""

    @property
    def opens(self) -> str:
        """When it opens, for a table."""
        return "when it is found"


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRule(AlertRule):
    """A rule that compares a figure with ``threshold``.

    It opens after the figure is beyond for ``lasts``, and recovers after it is not for ``clears``.
    """

    summary: str
    """A format with ``value``, ``limit`` and the detail of the figure."""
    unit: str
    threshold: float
    window: timedelta = NOW
    """The time over which the figure is computed; zero: the value of the moment."""
    is_inclusive: bool = False
    """Whether a figure equal to ``threshold`` is beyond it."""
    is_least: bool = False
    """Whether values below ``threshold`` are beyond it, such as days that remain."""
    is_of_fleet: bool = False
    """Whether its figures belong to no shop, so that no shop can have a threshold of its own."""
    lasts: timedelta = NOW
    clears: timedelta = MINUTES_10

    @property
    def opens(self) -> str:
        """When it opens, for a table."""
        sign = ("<" if self.is_least else ">") + ("=" if self.is_inclusive else "")
        lasts = f" for {self.lasts / timedelta(minutes=1):g} min" if self.lasts else ""
        return f"{sign} {self.threshold:g} {self.unit}{lasts}"

    def is_beyond(self, value: float, threshold: float) -> bool:
        """Return whether ``value`` is beyond ``threshold``."""
        if value == threshold:
            return self.is_inclusive
        return value < threshold if self.is_least else value > threshold


_EVALUATED = (
    FigureRule(
        name="requests_failed",
        severity="P2",
        about="webhooks or pages are answered with 5xx",
        action="fleet errors list --since 1h; then fleet doctor",
        summary="{failed} of {requests} requests to {route} failed with 5xx: {value:.1f}% (limit {limit:g}%)",
        unit="% of requests",
        threshold=1,
        window=timedelta(minutes=5),
        lasts=MINUTES_10,
    ),
    FigureRule(
        name="signature_failures",
        severity="P2",
        about="webhooks arrive with a wrong signature",
        action="fleet shops show SHOP; compare the secret with the provider's, then fleet shops secret",
        summary="{value:.0f} {provider} webhooks with a wrong signature in an hour (limit {limit:g})",
        unit="per hour",
        threshold=3,
        window=HOUR,
        is_inclusive=True,
    ),
    FigureRule(
        name="locks_stuck",
        severity="P2",
        about="work is locked by a worker that does not renew its lease",
        action="celery -A tasks unlock",
        summary="{value:.0f} items of {topic} are locked for over 15 min: celery -A tasks unlock",
        unit="items",
        threshold=0,
        is_of_fleet=True,
        clears=NOW,
    ),
    FigureRule(
        name="backlog_growing",
        severity="P2",
        about="a topic gets more work than its workers do, and the oldest waits too long",
        action="celery -A tasks backlog; more worker processes for the queue, or find what slows it",
        summary="{waiting} items of {topic} are ready ({earlier} 15 min before), the oldest {value:.0f} min "
        "longer than its limit of {limit_minutes:g} min",
        unit="min past the topic's limit, and more ready work than 15 min ago",
        threshold=0,
        window=MINUTES_15,
    ),
    FigureRule(
        name="archive_failed",
        severity="P2",
        about="events or audit events cannot be archived",
        action="fleet doctor; fleet work list --status error,dead",
        summary="{value:.0f} items of {topic} failed, last: {code}",
        unit="items that failed",
        threshold=0,
        lasts=MINUTES_10,
    ),
    FigureRule(
        name="run_too_long",
        severity="P3",
        about="a run of a job has started and runs longer than one try may take",
        action="fleet jobs history JOB; fleet work list",
        summary="{job} for {period} runs since {since}, {value:.0f} min longer than {limit_minutes} min",
        unit="min past the limit of its topic",
        threshold=0,
        clears=NOW,
    ),
    FigureRule(
        name="gap_healed",
        severity="P3",
        about="healing recorded events for which no webhook arrived",
        action="fleet events list --shop SHOP; docs/backfill.md",
        summary="healing recorded {value:.0f} events without a webhook ({period})",
        unit="events in the newest run",
        threshold=0,
        clears=NOW,
    ),
    FigureRule(
        name="ledger_broker_drift",
        severity="P2",
        about="the broker's queues and the ledger differ",
        action="celery -A tasks backlog; then fleet doctor",
        summary="{queue}: {value:.0f} items are due in the ledger and have no message in the broker",
        unit="items",
        threshold=1000,
        is_of_fleet=True,
        lasts=MINUTES_15,
    ),
    FigureRule(
        name="heartbeat_old",
        severity="P1",
        about="beat, the sweep or the broker has stopped",
        action="fleet doctor; restart what it names",
        summary="{name} was last seen {value:.0f} s ago (limit {limit:g} s)",
        unit="s",
        threshold=60,
        is_of_fleet=True,
        lasts=timedelta(minutes=2),
        clears=timedelta(minutes=2),
    ),
    FigureRule(
        name="worker_not_consuming",
        severity="P1",
        about="no worker takes messages of a queue",
        action="celery -A tasks inspect ping; restart the worker of the queue",
        summary="no worker of the queue {queue} has answered a canary for {value:.0f} s (limit {limit:g} s)",
        unit="s since the last canary",
        threshold=90,
        is_of_fleet=True,
        lasts=timedelta(minutes=2),
        clears=timedelta(minutes=2),
    ),
    FigureRule(
        name="connection_broken",
        severity="P2",
        about="a provider refuses the credentials",
        action="fleet doctor; then fleet shops secret or fleet shops connect",
        summary="{provider} refuses the credentials since {since}: {code}",
        unit="connections",
        threshold=0,
        clears=NOW,
    ),
    FigureRule(
        name="credential_expires",
        severity="P3",
        about="a credential that does not renew itself ends soon",
        action="fleet shops connect SHOP, or a new key with fleet shops secret",
        summary="the {provider} credential ends in {value:.0f} days (limit {limit:g} days)",
        unit="days that remain",
        threshold=14,
        is_least=True,
        clears=NOW,
    ),
    FigureRule(
        name="refresh_failing",
        severity="P2",
        about="a token that renews itself was not refreshed",
        action="fleet work list --status error; fleet shops show SHOP",
        summary="the {provider} token ended at {since} and was not refreshed since",
        unit="of the token's life past its end",
        threshold=0.5,
        clears=NOW,
    ),
    FigureRule(
        name="secret_old",
        severity="P3",
        about="a secret was not replaced for a long time",
        action="a new secret at the provider, then fleet shops secret",
        summary="the secret {secret} is {value:.0f} days old (limit {limit:g} days)",
        unit="days",
        threshold=90,
        clears=NOW,
    ),
    FigureRule(
        name="break_old",
        severity="P2",
        about="a difference between ledger and provider is unsolved",
        action="fleet payments breaks --shop SHOP --day DAY",
        summary="the reconciliation breaks of {day} are open for {value:.0f} days (limit {limit:g})",
        unit="days",
        threshold=3,
        clears=NOW,
    ),
    FigureRule(
        name="database_large",
        severity="P3",
        about="the database grows past its limit",
        action="docs/retention.md",
        summary="the database has {value:.1f} GB (limit {limit:g} GB); largest: {largest}",
        unit="GB",
        threshold=100,
        is_of_fleet=True,
        clears=HOUR,
    ),
    FigureRule(
        name="mails_refused",
        severity="P2",
        about="mail servers refuse recipients",
        action="fleet mail list",
        summary="{value:.0f} mails were refused in a day (limit {limit:g}), last: {code}",
        unit="per day",
        threshold=3,
        window=DAY,
        is_inclusive=True,
        clears=HOUR,
    ),
    FigureRule(
        name="alert_channel_failed",
        severity="P2",
        about="a channel of the alerts is refused, or retried for 15 min",
        action="fleet alerts test; then celery -A tasks requeue --topic alert_send",
        summary="{subject} gets no alerts; the first of {since}: {code}",
        unit="channels",
        threshold=0,
        is_of_fleet=True,
        clears=NOW,
    ),
    FigureRule(
        name="ai_at_cap",
        severity="P2",
        about="AI costs of a shop have reached its cap of the month; its AI work is paused",
        action="fleet shops costs SHOP; to go on, raise it with fleet shops set SHOP --ai-cap",
        summary="AI costs of {month} are {counted}, {value:.1f}% of the cap of {cap} (limit {limit:g}%)",
        unit="% of the month's cap",
        threshold=100,
        is_inclusive=True,
        clears=NOW,
    ),
    FigureRule(
        name="sms_over_budget",
        severity="P2",
        about="SMS costs of a shop are far over its budget of the month",
        action="fleet shops costs SHOP; call the owner: a campaign may send too much",
        summary="SMS costs of {month} are {counted}, {value:.1f}% of the budget of {cap} (limit {limit:g}%)",
        unit="% of the month's budget",
        threshold=150,
        clears=NOW,
    ),
    FigureRule(
        name="cost_not_converted",
        severity="P3",
        about="costs do not count against a limit, because no rate of their currency is stated",
        action="fleet shops set SHOP --exchange-rates USD/CAD=RATE",
        summary="{left} of {kind} costs of {month} do not count against {cap}: no rate is stated",
        unit="kinds of cost",
        threshold=0,
        clears=NOW,
    ),
    FigureRule(
        name="rule_not_computed",
        severity="P3",
        about="a rule has no figures, so nobody knows whether it is fine",
        action="fleet doctor; the log event figures_failed has the error",
        summary="the rule {subject} has no figures for {value:.0f} min (limit {limit:g} min)",
        unit="min",
        threshold=15,
        is_of_fleet=True,
        clears=NOW,
    ),
)


def _list_rules() -> Iterator[AlertRule]:
    for name, severity, about, recovers in RECORDED:
        yield AlertRule(name=name, severity=severity, about=about, recovers=recovers)
    yield from _EVALUATED


RULES: Mapping[str, AlertRule] = {rule.name: rule for rule in _list_rules()}
"""Every rule by its name, which is ``incidents.rule`` up to the colon."""

FIGURE_RULES: Mapping[str, FigureRule] = {rule.name: rule for rule in _EVALUATED}
