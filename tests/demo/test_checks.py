"""Failures of the demo's checks."""

from collections import Counter

from services.demo.checks import check_accounts, check_effects, check_smoke
from services.demo.expected import ExpectedState
from services.demo.figures import Figures, SandboxFigures
from services.demo.sender import Answers


def figures(event_ids: set[int], **account: int) -> Figures:
    return Figures(counts={}, account=account, dead={}, event_ids=event_ids, breaks=set(), mails={})


def test_acknowledged_event_without_a_row_is_a_loss() -> None:
    check = check_accounts(Answers(ids={1, 2}), figures({1}, done=1))

    assert not check.holds
    assert "1 acknowledged without a row" in check.seen


def test_every_event_in_one_class_adds_up() -> None:
    check = check_accounts(Answers(ids={1, 2, 3}), figures({1, 2, 3}, done=1, waiting=1, dead=1))

    assert check.holds
    assert check.seen == "3 accepted = 1 done + 1 waiting + 1 dead"


def test_a_block_that_is_missing_or_twice_is_named() -> None:
    expected = ExpectedState(interactions={("harbour", "AC1"), ("harbour", "AC2")})
    for blocks, holds in (
        ({"a": 1, "b": 1}, True),
        ({"a": 1}, False),
        ({"a": 2, "b": 1}, False),
        ({"a": 2}, False),
    ):
        outside = SandboxFigures({}, Counter(), Counter(), 1, Counter(blocks))
        found = {check.name: check for check in check_effects(expected, expected, outside)}
        assert found["each message and mail on its page once"].holds == holds


def test_key_applied_twice_and_a_wrong_figure_are_named() -> None:
    expected = ExpectedState(levels={("harbour", "7"): 4})
    state = ExpectedState(levels={("harbour", "7"): 3})
    outside = SandboxFigures({("harbour", "7"): 4}, Counter({"key": 2}), Counter())

    failed = {check.name: check.seen for check in check_effects(expected, state, outside) if not check.holds}

    assert failed.keys() == {"stock matches counts and sales", "no effect twice"}
    assert "harbour/7: wanted 4, found 3" in failed["stock matches counts and sales"]


def test_failed_smoke_is_named_with_its_steps() -> None:
    steps = [{"step": "health", "detail": "ready"}, {"step": "board", "detail": "waited 60 s"}]

    good = {"exit": 0, "ok": True, "steps": [{"step": "stages", "detail": "a -> b"}]}
    assert check_smoke(good).seen == "a -> b"
    for result in ({"exit": 1, "ok": False, "steps": steps}, {"exit": 2}, {"exit": 1, "ok": True}):
        assert not check_smoke(result).holds
    assert "waited 60 s" in check_smoke({"exit": 1, "ok": False, "steps": steps}).seen
