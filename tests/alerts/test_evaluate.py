"""Figures open and resolve incidents; a rule without figures is visible."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, text

from services.alerts import own_figures
from services.alerts.decide import Change
from services.alerts.evaluate import NOT_COMPUTED, check_rules, describe, evaluate_rules
from services.alerts.figures import Figure, Figures, collect_each
from services.alerts.incidents import find_incidents, get_incident
from services.alerts.people import acknowledge, list_entries
from services.alerts.rules import FIGURE_RULES
from services.console.serve import COLLECTORS as OF_CONSOLE
from services.mail.formatting import span
from tasks.collectors import COLLECTORS

NOW = datetime(2026, 11, 28, 7, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
DETAIL = {
    "breaks": 2, "calls": 9, "grown": "orders +1.0 GB",
    "earlier": 5, "cap": "50.00 CAD", "counted": "51.00 CAD", "kind": "ai", "left": "7.00 USD",
    "code": "401", "day": "2026-11-27", "failed": 3, "job": "daily", "largest": "work_queue 9 GB",
    "limit_minutes": 30, "month": "2026-11", "name": "beat", "period": "2026-11-27", "provider": "stripe",
    "queue": "webhooks", "requests": 9, "route": "/webhooks/stripe", "secret": "stripe-webhook",
    "since": "2026-11-27", "slowest": "claim", "spent": "41.00 CAD", "subject": "a rule",
    "topic": "mail_send",
    "waiting": 9, "queues": "webhooks", "worker": "the worker", "senders": "a", "report": "hours",
    "stale": 3, "pages": 40, "merchants": 40, "part": 4, "expiring": 3, "entries": 9,
}  # fmt: skip
RULES = pytest.mark.parametrize("rule", FIGURE_RULES)


def test_the_figures_of_all_rooms_are_those_of_all_rules(tx: Connection) -> None:
    insert = "insert into statement_stats values (:at, 'ingress', 'select x', 1, 3, '{0,0,1}')"
    tx.execute(text(insert), {"at": NOW - MINUTE})
    figures = [rule for collect in COLLECTORS for rule in collect(tx, NOW)]

    assert sorted(figures) == sorted(FIGURE_RULES.keys() - {NOT_COMPUTED})
    assert COLLECTORS == OF_CONSOLE


def open_rules(tx: Connection) -> list[tuple[int | None, str]]:
    return [(one.shop_id, one.rule) for one in find_incidents(tx)]


def play(
    tx: Connection, rule: str, figures: Sequence[Figure], start: datetime, time: timedelta
) -> list[Change]:
    changes, now = [], start
    while now <= start + time:
        changes += [one.change for one in evaluate_rules(tx, {rule: figures}, now)]
        now += MINUTE
    return changes


@pytest.mark.parametrize("rule", sorted(FIGURE_RULES.keys() - {NOT_COMPUTED}))
def test_a_figure_opens_one_incident_and_its_absence_resolves_it(tx: Connection, rule: str) -> None:
    spec = FIGURE_RULES[rule]
    beyond = Figure(spec.threshold + (-1 if spec.is_least else 1), 7, "a", DETAIL)

    assert play(tx, rule, [beyond], NOW, spec.lasts) == [Change.OPENED]
    assert open_rules(tx) == [(7, f"{rule}:a")]
    later = NOW + spec.lasts + MINUTE
    assert play(tx, rule, [], later, spec.clears + MINUTE) == [Change.RECOVERED]
    assert open_rules(tx) == []
    assert tx.execute(text("select count(*) from alert_states")).scalar_one() == 0


@pytest.mark.parametrize("rule", sorted(FIGURE_RULES.keys() - {NOT_COMPUTED}))
def test_an_open_incident_states_the_current_figure(tx: Connection, rule: str) -> None:
    spec = FIGURE_RULES[rule]
    value = spec.threshold + (-1 if spec.is_least else 1)
    opened_at = NOW + spec.lasts
    play(tx, rule, [Figure(value, 7, "a", DETAIL)], NOW, spec.lasts)
    acknowledge(tx, 1, now=opened_at, by="ada", request_id="r")
    entries = list_entries(tx, 1)

    other = {key: f"{one} b" if isinstance(one, str) else one + 1 for key, one in DETAIL.items()}  # type: ignore[operator]
    assert play(tx, rule, [Figure(value, 7, "a", other)], opened_at + MINUTE, MINUTE) == []
    (found,) = find_incidents(tx)
    assert found.summary == describe(spec, spec.threshold, Figure(value, detail=other))
    assert found.detail == other | {"value": value, "limit": spec.threshold}
    assert (found.acknowledged_by, list_entries(tx, 1)) == ("ada", entries)

    assert play(tx, rule, [], opened_at + 3 * MINUTE, spec.clears + MINUTE) == [Change.RECOVERED]
    assert describe(spec, spec.threshold, Figure(value, detail=other)) in get_incident(tx, 1).summary


@RULES
def test_every_summary_can_be_written(rule: str) -> None:
    spec = FIGURE_RULES[rule]

    summary = describe(spec, spec.threshold, Figure(7, detail=DETAIL))
    assert "{" not in summary
    assert "7" in summary


def test_a_rule_without_figures_has_an_incident_and_keeps_its_own(tx: Connection) -> None:
    figures = {"signature_failures": [Figure(5, 7, "stripe", {"provider": "stripe", "senders": "a"})]}
    evaluate_rules(tx, figures, NOW)
    for minute in range(1, 20):
        evaluate_rules(tx, {}, NOW + minute * MINUTE)

    assert sorted(open_rules(tx), key=str) == [
        (7, "signature_failures:stripe"),
        (None, f"{NOT_COMPUTED}:signature_failures"),
    ]
    for minute in range(20, 23):
        evaluate_rules(tx, figures, NOW + minute * MINUTE)
    assert open_rules(tx) == [(7, "signature_failures:stripe")]


def stuck(tx: Connection, now: datetime) -> Figures:
    return {"locks_stuck": [Figure(3, subject="mail_send", detail={"topic": "mail_send"})]}


def raise_bug(tx: Connection, now: datetime) -> Figures:
    raise ValueError("a zone is unknown")


def test_a_rule_that_was_never_computed_has_an_incident_which_is_p2_for_a_p1_rule(tx: Connection) -> None:
    for minute in range(20):
        check_rules(tx, [raise_bug, stuck], NOW + minute * MINUTE)

    found = {one.rule: one.severity for one in find_incidents(tx, limit=99)}
    blind = FIGURE_RULES.keys() - {NOT_COMPUTED, "locks_stuck"}
    assert found.keys() == {"locks_stuck:mail_send", *(f"{NOT_COMPUTED}:{name}" for name in blind)}
    assert found[f"{NOT_COMPUTED}:heartbeat_old"] == "P2"
    assert found[f"{NOT_COMPUTED}:backlog_growing"] == "P3"


def test_one_query_that_fails_leaves_only_its_own_rule_without_figures(
    tx: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(own_figures.QUERIES, "mails_refused", "select no_such_column from mail_outbox")
    found = collect_each(tx, {"rooms": own_figures.collect_figures, "a_bug": raise_bug}, NOW)

    assert own_figures.QUERIES.keys() - found.keys() == {"mails_refused"}
    assert {"heartbeat_old", "backlog_growing"} <= found.keys()
    failed = [vars(one)["fields"]["rules"] for one in caplog.records if one.message == "figures_failed"]
    assert failed == ["mails_refused", "a_bug"]


def test_a_time_in_the_future_does_not_stop_the_evaluation(tx: Connection) -> None:
    check_rules(tx, [stuck], NOW + timedelta(hours=6))
    evaluate_rules(tx, {"locks_stuck": []}, NOW + timedelta(hours=6))
    tx.execute(text("delete from incidents"))
    for minute in (0, 1, 2, 3):
        check_rules(tx, [lambda _tx, _now: {"locks_stuck": []}], NOW + minute * MINUTE)

    assert tx.execute(text("select max(computed_at) from rule_evaluations")).scalar_one() == NOW + 3 * MINUTE
    assert tx.execute(text("select count(*) from alert_states")).scalar_one() == 0
    assert check_rules(tx, [stuck], NOW + 3 * MINUTE + timedelta(seconds=5)) == []


def test_failed_requests_are_no_less_while_nothing_arrives(tx: Connection) -> None:
    insert = (
        "insert into request_counts (minute, shop, provider, outcome, route, status, count)"
        " values (:at, '?', '', 'answered', '/cron/<job>', :status, 9)"
    )

    def pass_minutes(first: int, last: int, status: int | None) -> list[Change]:
        changes = []
        for now in (NOW + minute * MINUTE for minute in range(first, last)):
            if status:
                tx.execute(text(insert), {"at": now, "status": status})
            figures = own_figures.collect_figures(tx, now)
            changes += evaluate_rules(tx, {"requests_failed": figures["requests_failed"]}, now)
        return [one.change for one in changes]

    assert pass_minutes(0, 12, 503) == [Change.OPENED]
    assert pass_minutes(12, 40, None) == []
    assert pass_minutes(40, 52, 202) == [Change.RECOVERED]


def test_after_a_long_stop_a_rule_has_two_minutes_for_its_figures(tx: Connection) -> None:
    evaluate_rules(tx, {"signature_failures": []}, NOW)
    started = NOW + timedelta(hours=3)
    for minute in (0, 1):
        evaluate_rules(tx, {}, started + minute * MINUTE)
    evaluate_rules(tx, {"signature_failures": []}, started + 2 * MINUTE)

    assert open_rules(tx) == []


def test_shops_and_subjects_have_incidents_of_their_own(tx: Connection) -> None:
    figures = [
        Figure(3, shop, provider, {"provider": provider, "senders": "a"})
        for shop in (7, 8)
        for provider in "ab"
    ]
    evaluate_rules(tx, {"signature_failures": figures}, NOW)

    assert len(open_rules(tx)) == 4
    changes = play(tx, "signature_failures", figures[1:], NOW + MINUTE, timedelta(minutes=11))
    assert changes == [Change.RECOVERED]
    assert (7, "signature_failures:a") not in open_rules(tx)


@pytest.mark.parametrize("rule", sorted(FIGURE_RULES.keys() - {NOT_COMPUTED}))
@pytest.mark.parametrize("is_known", [True, False], ids=["a figure", "no figure"])
def test_the_text_of_an_end_begins_with_the_end_and_has_one_time_zone(
    tx: Connection, rule: str, is_known: bool
) -> None:
    spec = FIGURE_RULES[rule]
    at = datetime(2026, 11, 28, 6, 30, tzinfo=UTC)
    beyond = Figure(spec.threshold + (-1 if spec.is_least else 1), 7, "a", DETAIL | {"since": at})
    within = Figure(spec.threshold + (1 if spec.is_least else -1), 7, "a", DETAIL | {"since": at})
    play(tx, rule, [beyond], NOW, spec.lasts)
    (opened,) = find_incidents(tx)
    now = opened.opened_at + 2 * HOUR
    play(tx, rule, [within] if is_known else [], now, spec.clears)

    (ended,) = find_incidents(tx, states=["resolved"])

    lasted = span(ended.resolved_at - opened.opened_at)
    figure = f", now {within.value:.4g} {spec.unit} (limit {spec.threshold:g})" if is_known else ""
    assert ended.summary == f"Recovered after {lasted}{figure}. Before: {opened.summary}"
    assert "UTC" not in ended.summary
    assert ("2026-11-27 23:30 -07:00" in opened.summary) == ("{since}" in spec.summary)
