"""Incidents: one row per shop, rule and period; a resolved one reopens only with a new finding."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection

from services.alerts.incidents import (
    Incident,
    find_incidents,
    record_incidents,
    resolve_incident,
)
from services.alerts.people import resolve_by_person, snooze
from services.audit.append import Author
from services.core.errors import InputInvalid

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


def fire(
    tx: Connection,
    period: str = "2026-11-20",
    severity: str = "P2",
    summary: str = "it fails",
    **detail: Any,
) -> int:
    incident = Incident(1, "a_rule", period, severity, summary, detail)
    return record_incidents(tx, [incident], NOW + timedelta(minutes=1))


def close(tx: Connection) -> None:
    for line in find_incidents(tx):
        resolve_by_person(tx, line.id, now=NOW, by="ada", reason="it is known", request_id="r")


def open_periods(tx: Connection) -> list[str]:
    return [line.period for line in find_incidents(tx)]


def findings(tx: Connection) -> list[Mapping[str, Any]]:
    return [line.detail["findings"] for line in find_incidents(tx)]


@pytest.mark.parametrize(
    ("news", "opens"),
    [
        ({}, False),
        ({"summary": "it fails in other words"}, False),
        ({"severity": "P3"}, False),
        ({"severity": "P1"}, True),
        ({"count": 2}, True),
        ({"period": "2026-11-21"}, True),
    ],
)
def test_resolved_incident_reopens_only_with_a_new_finding(
    tx: Connection, news: dict[str, Any], opens: bool
) -> None:
    fire(tx, **{"count": 1})
    close(tx)
    assert fire(tx, **{"count": 1, **news}) == int(opens)
    assert len(open_periods(tx)) == int(opens)


def test_without_a_detail_the_summary_is_what_was_found(tx: Connection) -> None:
    fire(tx)
    close(tx)
    assert (fire(tx), fire(tx, summary="it fails in another way")) == (0, 1)


def test_incident_resolved_by_its_rule_reopens_with_the_same_cause(tx: Connection) -> None:
    fire(tx, count=1)
    resolve_incident(tx, 1, "a_rule", None, NOW, "It is gone.")
    assert open_periods(tx) == []
    fire(tx, count=1)
    assert open_periods(tx) == ["2026-11-20"]


def test_an_open_finding_has_one_incident_however_many_nights_find_it(tx: Connection) -> None:
    assert fire(tx, findings=["row 2"]) == 1
    assert fire(tx, period="2026-11-21", findings=["row 2"]) == 0
    assert open_periods(tx) == ["2026-11-20"]


def test_a_finding_that_a_person_closed_stays_closed_in_later_nights(tx: Connection) -> None:
    fire(tx, findings=["row 2", "row 7"])
    close(tx)
    assert fire(tx, findings=["row 7"]) == 0
    assert fire(tx, period="2026-11-21", findings=["row 2", "row 7"]) == 0
    assert open_periods(tx) == []


def test_a_new_finding_opens_in_the_same_night_and_in_a_later_one(tx: Connection) -> None:
    fire(tx, findings=["row 2"])
    close(tx)
    assert fire(tx, findings=["row 2", "row 9"]) == 1
    assert fire(tx, period="2026-11-21", findings=["row 11"]) == 1
    assert sorted(open_periods(tx)) == ["2026-11-20", "2026-11-21"]


def test_an_open_list_of_findings_never_loses_one(tx: Connection) -> None:
    fire(tx, findings=["row 2"])
    fire(tx, findings=["row 9"])
    assert findings(tx) == [["row 2", "row 9"]]


def test_each_shop_has_its_own_incident(tx: Connection) -> None:
    fire(tx, findings=["row 2"])
    close(tx)
    other = Incident(2, "a_rule", "2026-11-20", "P2", "it fails", {"findings": ["row 2"]})
    assert record_incidents(tx, [other], NOW) == 1


def test_ids_are_consecutive_whatever_is_updated_between(tx: Connection) -> None:
    for minute in range(30):
        incidents = [Incident(shop, "a_rule", "1", "P2", f"{minute}") for shop in (None, 1, 2)]
        record_incidents(tx, incidents, NOW + timedelta(minutes=minute))
    fire(tx, "2")
    ids = sorted(line.id for line in find_incidents(tx))

    assert ids == [*range(ids[0], ids[0] + 4)]


def test_an_incident_that_opens_again_has_no_snooze(tx: Connection) -> None:
    fire(tx)
    (one,) = find_incidents(tx)
    snooze(tx, one.id, NOW + timedelta(days=7), now=NOW, by="ada", reason="known", request_id="r")
    resolve_incident(tx, 1, "a_rule", None, NOW, "It is gone.")
    fire(tx)

    assert [line.snoozed_until for line in find_incidents(tx)] == [None]


def test_a_higher_severity_ends_the_snooze(tx: Connection) -> None:
    fire(tx)
    (one,) = find_incidents(tx)
    snooze(tx, one.id, NOW + timedelta(days=7), now=NOW, by="ada", reason="known", request_id="r")
    fire(tx, summary="it fails more")
    assert [line.snoozed_until for line in find_incidents(tx)] == [NOW + timedelta(days=7)]
    fire(tx, severity="P1")
    assert [line.snoozed_until for line in find_incidents(tx)] == [None]


def test_a_p1_is_snoozed_for_at_most_a_day(tx: Connection) -> None:
    fire(tx, severity="P1")
    (one,) = find_incidents(tx)
    author: Author = {"now": NOW, "by": "ada", "reason": "known", "request_id": "r"}

    with pytest.raises(InputInvalid, match="a P1 is snoozed for at most 24 h, until 2026-11-22 02:00 -07:00"):
        snooze(tx, one.id, NOW + timedelta(hours=24, seconds=1), **author)
    snooze(tx, one.id, NOW + timedelta(hours=24), **author)
