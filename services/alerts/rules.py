"""The rules: what opens an incident, how severe it is, and how it recovers. Pure.

A rule is *recorded* by the room that finds the fault, or *evaluated* from a figure: see
``services.alerts.evaluate``. ``runbook.toml`` says what to do about each.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from services.alerts.conversation_rules import CONVERSATIONS
from services.alerts.recorded_rules import RECORDED
from services.alerts.rule import MINUTES_2, MINUTES_10, AlertRule, FigureRule

MINUTES_15, MINUTES_30 = timedelta(minutes=15), timedelta(minutes=30)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

_EVALUATED = (
    FigureRule(
        name="requests_failed",
        severity="P2",
        about="webhooks or pages are answered with 5xx",
        summary="{value:.1f}% of the requests to {route} failed with 5xx: {failed} of {requests} "
        "(limit {limit:g}%)",
        unit="% of requests",
        threshold=1,
        window=timedelta(minutes=5),
        lasts=MINUTES_10,
    ),
    FigureRule(
        name="signature_failures",
        severity="P2",
        about="webhooks arrive with a wrong signature",
        summary="{provider} webhooks with a wrong signature in an hour: {value:.0f} (limit {limit:g}), "
        "most from {senders}",
        unit="per hour",
        threshold=3,
        window=HOUR,
        is_inclusive=True,
    ),
    FigureRule(
        name="locks_stuck",
        severity="P2",
        about="work is locked by a worker that does not renew its lease",
        summary="work of {topic} locked for over 15 min: {value:.0f}; `celery -A tasks unlock` frees it",
        unit="items",
        threshold=0,
        is_of_fleet=True,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="backlog_growing",
        severity="P2",
        about="a topic gets more work than its workers do, and the oldest waits too long",
        summary="ready work of {topic}: {waiting} ({earlier} 15 min before), the oldest {value:.0f} min "
        "longer than its limit of {limit_minutes:g} min",
        unit="min past the topic's limit, and more ready work than 15 min ago",
        threshold=0,
        is_of_fleet=True,
        window=MINUTES_15,
    ),
    FigureRule(
        name="archive_failed",
        severity="P2",
        about="events or audit events cannot be archived",
        summary="work of {topic} that failed: {value:.0f}, last with {code}",
        unit="items that failed",
        threshold=0,
        lasts=MINUTES_10,
    ),
    FigureRule(
        name="run_too_long",
        severity="P3",
        about="a run of a job has started and runs longer than one try may take",
        summary="{job} for {period} runs since {since}, {value:.0f} min longer than {limit_minutes} min",
        unit="min past the limit of its topic",
        threshold=0,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="gap_healed",
        severity="P3",
        about="healing recorded events for which no webhook arrived",
        summary="events without a webhook that healing recorded: {value:.0f} ({period})",
        unit="events in the newest run",
        threshold=0,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="ledger_broker_drift",
        severity="P2",
        about="the broker's queues and the ledger differ",
        summary="{queue}: {value:.0f} due in the ledger without a message in the broker (limit {limit:g})",
        unit="items",
        threshold=1000,
        is_of_fleet=True,
        lasts=MINUTES_15,
    ),
    FigureRule(
        name="heartbeat_old",
        severity="P1",
        about="beat, the sweep or the broker has stopped",
        summary="{name} was last seen {value:.0f} s ago (limit {limit:g} s)",
        unit="s",
        threshold=60,
        lowest=30,
        is_age=True,
        is_of_fleet=True,
        lasts=MINUTES_2,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="worker_not_consuming",
        severity="P1",
        about="a worker takes no messages of its queues, or queues have no worker",
        summary="{worker} of {queues} for {value:.0f} s (limit {limit:g} s)",
        unit="s since the last canary",
        threshold=90,
        lowest=90,
        is_age=True,
        is_of_fleet=True,
        lasts=MINUTES_2,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="connection_broken",
        severity="P2",
        about="a provider refuses the credentials",
        summary="{provider} refuses the credentials since {since}: {code}",
        unit="connections",
        threshold=0,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="credential_expires",
        severity="P3",
        about="a credential that does not renew itself ends soon",
        summary="the {provider} credential ends in {value:.0f} d (limit {limit:g} d)",
        unit="days that remain",
        threshold=14,
        is_least=True,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="refresh_failing",
        severity="P2",
        about="a token that renews itself was not refreshed",
        summary="the {provider} token ended at {since} and was not refreshed since",
        unit="of the token's life past its end",
        threshold=0.5,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="report_failed",
        severity="P2",
        about="a scheduled report was not sent",
        summary="the report {report} for {period} was not sent: {code}",
        unit="reports whose newest run failed",
        threshold=0,
        clears=MINUTES_2,
    ),
    *CONVERSATIONS,
    FigureRule(
        name="secret_old",
        severity="P3",
        about="a secret was not replaced for a long time",
        summary="the secret {secret} is {value:.0f} d old (limit {limit:g} d)",
        unit="days",
        threshold=90,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="break_old",
        severity="P2",
        about="a difference between ledger and provider is unsolved",
        summary="the reconciliation breaks of {day} are open for {value:.0f} d (limit {limit:g} d)",
        unit="days",
        threshold=3,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="database_slow",
        severity="P2",
        about="statements of ingress and console take long",
        summary="95% of the statements of ingress and console took up to {value:.0f} ms "
        "(limit {limit:g} ms; calls: {calls}); slowest: {slowest}",
        unit="ms for 95 % of statements",
        threshold=200,
        is_of_fleet=True,
        window=timedelta(minutes=5),
        lasts=MINUTES_10,
    ),
    FigureRule(
        name="database_large",
        severity="P3",
        about="the database grows past its limit",
        summary="the database has {value:.1f} GB (limit {limit:g} GB); largest: {largest}; {grown}",
        unit="GB",
        threshold=100,
        is_of_fleet=True,
        clears=HOUR,
    ),
    FigureRule(
        name="mails_refused",
        severity="P2",
        about="mails bounce, or mail servers refuse recipients",
        summary="mails refused or bounced in a day: {value:.0f} (limit {limit:g}), such as {code}",
        unit="per day",
        threshold=3,
        window=DAY,
        is_inclusive=True,
        clears=HOUR,
    ),
    FigureRule(
        name="alert_channel_failed",
        severity="P2",
        about="a channel of the alerts is refused, sends nothing for 15 min, or cannot form a message",
        summary="{subject} gets no alerts since {since}: {code}",
        unit="channels",
        threshold=0,
        is_of_fleet=True,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="ai_at_cap",
        severity="P2",
        about="AI costs of a shop have reached its cap of the month; its AI work is paused",
        summary="AI costs of {month} are {counted}, {value:.1f}% of the cap of {cap} (limit {limit:g}%)",
        unit="% of the month's cap",
        threshold=100,
        is_inclusive=True,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="sms_over_budget",
        severity="P2",
        about="SMS costs of a shop are far over its budget of the month",
        summary="SMS costs of {month} are {counted}, {value:.1f}% of the budget of {cap} (limit {limit:g}%)",
        unit="% of the month's budget",
        threshold=150,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="cost_not_converted",
        severity="P3",
        about="costs do not count against a limit, because no rate of their currency is stated",
        summary="{left} of {kind} costs of {month} do not count against {cap}: no rate is stated",
        unit="kinds of cost",
        threshold=0,
        clears=MINUTES_2,
    ),
    FigureRule(
        name="rule_not_computed",
        severity="P3",
        about="a rule has no figures, so nobody knows whether it is fine (P2 for a P1 rule)",
        summary="the rule {subject} has no figures for {value:.0f} min (limit {limit:g} min)",
        unit="min",
        threshold=15,
        is_of_fleet=True,
        lasts=MINUTES_2,  # after a restart some figures take a minute
        clears=MINUTES_2,
    ),
)


def _list_rules() -> Iterator[AlertRule]:
    for name, severity, about, recovers in RECORDED:
        yield AlertRule(name=name, severity=severity, about=about, recovers=recovers)
    yield from _EVALUATED


RULES: Mapping[str, AlertRule] = {rule.name: rule for rule in _list_rules()}
"""Every rule by its name, which is ``incidents.rule`` up to the colon."""

FIGURE_RULES: Mapping[str, FigureRule] = {rule.name: rule for rule in _EVALUATED}

AGING = [rule.name for rule in FIGURE_RULES.values() if rule.is_age]
"""Rules whose figure is an age."""
