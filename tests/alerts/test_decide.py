"""The state machine of a rule: opens once, recovers once, and does not flap inside its times."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.alerts.decide import LONGEST_GAP, AlertState, Change, decide
from services.alerts.rule import FigureRule
from services.alerts.rules import FIGURE_RULES

START = datetime(2026, 11, 28, 7, tzinfo=UTC)
STEP = timedelta(seconds=30)

RULES = pytest.mark.parametrize("rule", FIGURE_RULES.values(), ids=FIGURE_RULES)


def beyond(rule: FigureRule) -> float:
    return rule.threshold - 1 if rule.is_least else rule.threshold + 1


def within(rule: FigureRule) -> float:
    return rule.threshold + 1 if rule.is_least else rule.threshold - 1


def play(rule: FigureRule, values: list[float | None]) -> list[tuple[timedelta, Change]]:
    """Return the changes, each with its time after the start, of one value every 30 s."""
    state, changes = AlertState(), []
    for step, value in enumerate(values):
        state, change = decide(rule, rule.threshold, value, state, START + step * STEP)
        if change:
            changes.append((step * STEP, change))
    return changes


def steps(time: timedelta) -> int:
    return -(-time // STEP)


@RULES
def test_a_rule_opens_after_its_time_and_not_one_step_before(rule: FigureRule) -> None:
    values: list[float | None] = [beyond(rule)] * (steps(rule.lasts) + 1)

    assert play(rule, values) == [(rule.lasts, Change.OPENED)]
    assert play(rule, values[:-1]) == []


@RULES
def test_a_figure_within_the_threshold_opens_nothing(rule: FigureRule) -> None:
    on_the_edge = within(rule) if rule.is_inclusive else rule.threshold

    assert play(rule, [on_the_edge] * 200) == []


@RULES
def test_a_figure_equal_to_an_inclusive_threshold_opens(rule: FigureRule) -> None:
    changes = play(rule, [rule.threshold] * (steps(rule.lasts) + 1))

    assert [change for _, change in changes] == ([Change.OPENED] if rule.is_inclusive else [])


@RULES
def test_a_rule_recovers_after_its_time_also_when_there_is_nothing_to_count(rule: FigureRule) -> None:
    opening: list[float | None] = [beyond(rule)] * (steps(rule.lasts) + 1)
    for quiet in (within(rule), None):
        changes = play(rule, opening + [quiet] * (steps(rule.clears) + 1))
        recovered_at = rule.lasts + STEP + rule.clears
        assert changes == [(rule.lasts, Change.OPENED), (recovered_at, Change.RECOVERED)]


@RULES
@given(st.lists(st.booleans(), max_size=300))
def test_a_rule_does_not_flap_inside_its_times(rule: FigureRule, is_beyond: list[bool]) -> None:
    changes = play(rule, [beyond(rule) if one else within(rule) for one in is_beyond])
    changed = [(at, change) for at, change in changes if change is not Change.WORSENED]

    assert [change for _, change in changed] == [Change.OPENED, Change.RECOVERED] * (len(changed) // 2) + (
        [Change.OPENED] if len(changed) % 2 else []
    )
    for (before, _), (after, change) in pairwise(changed):
        assert after - before >= (rule.clears if change is Change.RECOVERED else rule.lasts)


def test_a_doubled_figure_is_one_change() -> None:
    rule = FIGURE_RULES["signature_failures"]

    assert [change for _, change in play(rule, [3, 4, 5, 6, 7, 11, 12, 12])] == [
        Change.OPENED,
        Change.WORSENED,
        Change.WORSENED,
    ]


def test_a_figure_beyond_the_second_threshold_is_one_change() -> None:
    rule = FIGURE_RULES["canvas_stale"]
    values: list[float | None] = [30.0] * (steps(rule.lasts) + 1)

    assert [change for _, change in play(rule, [*values, 40, 50, 51, 49, 52, 59])] == [
        Change.OPENED,
        Change.WORSENED,
    ]


def test_a_credential_that_lasts_half_as_long_is_another_change() -> None:
    rule = FIGURE_RULES["credential_expires"]

    assert [change for _, change in play(rule, [13, 12, 6.5, 6, 3, 2.5])] == [
        Change.OPENED,
        Change.WORSENED,
        Change.WORSENED,
    ]


def test_a_credential_that_ends_is_one_change_and_not_one_at_each_evaluation() -> None:
    rule = FIGURE_RULES["credential_expires"]
    last_minutes = [1 - step / 2880 for step in range(2 * 2880)]  # from one day before its end to one after

    assert [change for _, change in play(rule, last_minutes)] == [Change.OPENED, Change.WORSENED]
    assert [change for _, change in play(rule, [-1 - step for step in range(9)])] == [Change.OPENED]


@RULES
def test_a_figure_that_comes_and_goes_is_one_incident(rule: FigureRule) -> None:
    opening: list[float | None] = [beyond(rule)] * steps(rule.lasts)
    values = opening + [beyond(rule), None] * 40

    assert [change for _, change in play(rule, values)] == [Change.OPENED]


def test_time_without_an_evaluation_does_not_count() -> None:
    rule = FIGURE_RULES["requests_failed"]
    state, _ = decide(rule, rule.threshold, 900.0, AlertState(), START)
    later = START + rule.lasts + LONGEST_GAP

    state, change = decide(rule, rule.threshold, 900.0, state, later)
    assert change is None
    assert state.turned_at == later
