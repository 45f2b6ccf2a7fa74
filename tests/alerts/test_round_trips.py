"""Incident rows: distinct values go in, and each finder returns them under the names of their columns."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from services.alerts.incidents import (
    STATES,
    Incident,
    find_incidents,
    get_incident,
    list_open_incidents,
    record_incidents,
)
from services.alerts.people import resolve_by_person

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
ODD = "\\ a\\nb \"quoted\" 'single' {brace,comma} NULL\n\ttab é 漢"


def test_incident_is_read_back_by_name_and_by_each_finder(tx: Connection) -> None:
    made = Incident(7, f"rule {ODD}", f"period {ODD}", "P3", f"summary {ODD}", {"detail": ODD})
    record_incidents(tx, [made], NOW)
    tx.exec_driver_sql("update incidents set opened_at = opened_at - interval '1 day'")
    (opened,) = list_open_incidents(tx, made.rule)
    resolve_by_person(
        tx, opened.id, now=NOW + timedelta(1), by=f"by {ODD}", reason=f"why {ODD}", request_id="r"
    )

    row = dict(tx.exec_driver_sql("select * from incidents").mappings().one())
    (listed,) = find_incidents(tx, states=STATES)

    assert {name: row[name] for name in made._fields} == made._asdict()
    assert (row["opened_at"], row["updated_at"]) == (NOW - timedelta(1), NOW + timedelta(1))
    assert (row["resolved_by"], row["resolved_reason"]) == (f"by {ODD}", f"why {ODD}")
    changed = ("status", "updated_at", "resolved_at", "resolved_by", "resolved_reason")
    same = [name for name in opened.__slots__ if name not in changed]
    assert {name: getattr(opened, name) for name in same} == {name: row[name] for name in same}
    assert get_incident(tx, opened.id) == listed
    assert {name: getattr(listed, name) for name in listed.__slots__} == {
        name: row[name] for name in listed.__slots__
    }
