"""P1s are repeated, their holders reminded, and what lasts or fails twice is escalated."""

from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Engine

from services.alerts.channels import AlertSendHandler
from services.alerts.messages import MAX_SUMMARY
from services.alerts.notify import ESCALATE_AFTER, REPEAT_AFTER, post_note
from services.alerts.people import LONGEST_TEXT, acknowledge, add_note, record_action, resolve_by_person
from services.core.db import transaction
from services.core.errors import InputInvalid
from tests.alerts.slack import MINUTE, NOW, TOPIC, act, failure, fire, notify, recover
from tests.fakes.settings import settings_of
from tests.fakes.web import Web
from tests.jobs.work import serve


def test_a_p1_is_repeated_until_a_person_acknowledges_it(engine: Engine, web: Web) -> None:
    fire(engine, failure(severity="P1"))
    notify(engine, web, NOW)
    assert notify(engine, web, NOW + REPEAT_AFTER - MINUTE) == []
    (again,) = notify(engine, web, NOW + REPEAT_AFTER)
    assert again.startswith("*P1 still open*")

    act(engine, acknowledge, NOW + REPEAT_AFTER + MINUTE)
    assert notify(engine, web, NOW + 2 * REPEAT_AFTER) == []


def test_the_holder_of_a_p1_is_reminded_after_half_an_hour_without_a_note(engine: Engine, web: Web) -> None:
    fire(engine, failure(severity="P1"))
    notify(engine, web, NOW)
    act(engine, acknowledge, NOW + MINUTE)
    assert notify(engine, web, NOW + REPEAT_AFTER) == []

    (reminder,) = notify(engine, web, NOW + REPEAT_AFTER + MINUTE)
    assert reminder.startswith("*P1 reminder*")
    assert "ada holds it and wrote no note for 30 min" in reminder
    act(engine, partial(add_note, note="restores the backup"), NOW + REPEAT_AFTER + 20 * MINUTE)
    assert notify(engine, web, NOW + 2 * REPEAT_AFTER + MINUTE) == []
    assert len(notify(engine, web, NOW + 2 * REPEAT_AFTER + 20 * MINUTE)) == 1


def test_a_p2_is_neither_repeated_nor_its_holder_reminded(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    notify(engine, web, NOW)
    assert notify(engine, web, NOW + timedelta(days=1)) == []
    act(engine, acknowledge, NOW + timedelta(days=1))
    assert notify(engine, web, NOW + timedelta(days=2)) == []


def test_a_p1_that_is_open_for_two_hours_is_escalated_once(engine: Engine, web: Web) -> None:
    fire(engine, failure(severity="P1"))
    notify(engine, web, NOW)
    act(engine, acknowledge, NOW + ESCALATE_AFTER - MINUTE)

    (escalated,) = notify(engine, web, NOW + ESCALATE_AFTER)
    assert escalated.startswith("*P1 escalated*")
    assert "; escalated because it is a P1 and open for 2 h; ada holds it\n" in escalated
    assert "Get a second person." in escalated
    later = [notify(engine, web, NOW + ESCALATE_AFTER + n * REPEAT_AFTER) for n in (1, 2, 3)]
    assert [text.partition("*:")[0] for (text,) in later] == ["*P1 reminder"] * 3


def test_an_old_incident_that_rises_to_p1_is_not_escalated_at_once(engine: Engine, web: Web) -> None:
    later = NOW + timedelta(days=1)
    fire(engine, failure())
    notify(engine, web, NOW)
    fire(engine, failure(severity="P1"), now=later)
    assert [text.partition("*:")[0] for text in notify(engine, web, later)] == ["*P1 worsened"]

    assert notify(engine, web, later + REPEAT_AFTER - MINUTE) == []
    assert [text.partition("*:")[0] for text in notify(engine, web, later + REPEAT_AFTER)] == [
        "*P1 escalated"
    ]


def test_two_failed_actions_escalate_an_incident_of_any_severity(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    notify(engine, web, NOW)
    for minute, outcome in ((1, "failed"), (2, "done"), (3, "failed")):
        assert notify(engine, web, NOW + minute * MINUTE) == []
        acted = partial(record_action, kind="action", text=f"try {minute}", detail={"outcome": outcome})
        act(engine, acted, NOW + minute * MINUTE)

    (escalated,) = notify(engine, web, NOW + 4 * MINUTE)
    assert escalated.startswith("*P2 escalated*")
    assert "; escalated because 2 actions failed: try 1; try 3\n" in escalated
    assert notify(engine, web, NOW + timedelta(days=1)) == []


def test_an_incident_that_opens_again_has_no_holder_and_no_failed_actions(engine: Engine, web: Web) -> None:
    fire(engine, failure(severity="P1"))
    act(engine, acknowledge, NOW)
    for _ in range(2):
        act(engine, partial(record_action, kind="action", text="x", detail={"outcome": "failed"}), NOW)
    notify(engine, web, NOW)
    assert len(notify(engine, web, NOW + MINUTE)) == 1
    recover(engine, failure(), NOW + 2 * MINUTE)
    notify(engine, web, NOW + 2 * MINUTE)
    fire(engine, failure(severity="P1"), now=NOW + 9 * MINUTE)

    (again,) = notify(engine, web, NOW + 9 * MINUTE)
    assert "Take it, so that it is not repeated" in again
    assert notify(engine, web, NOW + 10 * MINUTE) == []
    (still,) = notify(engine, web, NOW + 9 * MINUTE + REPEAT_AFTER)
    assert still.startswith("*P1 still open*")


def test_a_long_note_is_cut_in_messages_and_a_longer_one_is_refused(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    with transaction(engine) as tx:
        post_note(tx, 1, "x" * LONGEST_TEXT, "ada", NOW)
    serve(engine, TOPIC, AlertSendHandler())

    assert len(web.requests[-1].json["text"]) < 2 * MAX_SUMMARY
    for change in (partial(add_note, note="x" * 2001), partial(resolve_by_person, reason="x" * 2001)):
        with pytest.raises(InputInvalid, match="2,001 characters"):
            act(engine, change, NOW)


def test_a_posted_note_leaves_at_once(engine: Engine, web: Web) -> None:
    fire(engine, failure())
    with transaction(engine) as tx:
        post_note(tx, 1, "their page says <14:00>", "ada", NOW)
    serve(engine, TOPIC, AlertSendHandler())

    ((note,),) = [request.json.values() for request in web.requests]
    assert note.startswith("*P2 note*")
    assert "ada: their page says &lt;14:00&gt;" in note
    with settings_of(SLACK_WEBHOOK_URL=""), transaction(engine) as tx:
        assert post_note(tx, 1, "x", "ada", NOW) == []
