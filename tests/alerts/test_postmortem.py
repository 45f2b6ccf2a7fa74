"""The draft of a postmortem has what is recorded: figures, changes, releases, the timeline and its people."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine

from services.alerts.incidents import Incident, record_incidents, resolve_incident
from services.alerts.people import acknowledge, add_note
from services.alerts.postmortem import format_postmortem, read_record
from services.audit.append import Mutation, append_change
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.ledger.heartbeats import record_release
from tests.jobs.job_rows import add_shops

NOW = datetime(2026, 11, 28, 15, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SLOW = Incident(1, "work_dead:mail_send", "2026-11-28", "P1", "3 | mail_send <dead>", {"dead": 3})


def change(engine: Engine, shop_id: int | None, summary: str, at: datetime) -> None:
    with transaction(engine) as tx:
        append_change(
            tx, "shop.set", {shop_id: [Mutation("shops", "1", summary)]}, by="ana", now=at
        )  # fmt: skip


def play(engine: Engine) -> str:
    """Return the draft of an incident of one hour."""
    add_shops(engine, NOW - 40 * HOUR, acme="America/Toronto", other="UTC")
    change(engine, 1, "too early", NOW - 25 * HOUR)
    with transaction(engine) as tx:
        record_release(tx, "1.4", NOW - 30 * HOUR)
        record_release(tx, "1.5", NOW - HOUR)
        record_release(tx, "1.5", NOW - MINUTE)
    change(engine, 1, "timezone set", NOW - 2 * HOUR)
    change(engine, 2, "of another shop", NOW - 2 * HOUR)
    with transaction(engine) as tx:
        record_incidents(tx, [SLOW], NOW)
    with transaction(engine) as tx:
        acknowledge(tx, 1, by="ben", now=NOW + 4 * MINUTE)
    change(engine, None, "topic mail_send paused", NOW + 5 * MINUTE)
    with transaction(engine) as tx:
        add_note(tx, 1, "the server\n## is down", by="ben", now=NOW + 6 * MINUTE)
    with transaction(engine) as tx:
        resolve_incident(tx, 1, SLOW.rule, SLOW.period, NOW + HOUR, "Done.")
    change(engine, None, "afterwards", NOW + 2 * HOUR)
    with transaction(engine) as tx:
        return format_postmortem(read_record(tx, 1, NOW + 3 * HOUR))


def section(draft: str, name: str) -> list[str]:
    """Return the lines of the list below a heading."""
    _, _, rest = draft.partition(f"## {name}\n")
    return [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("- ")]


def test_the_timeline_has_what_the_rule_and_people_did_while_it_was_open(engine: Engine) -> None:
    assert section(play(engine), "Timeline") == [
        "- 2026-11-28 10:00:00 -05:00: opened: 3 | mail_send &lt;dead>",
        "- 2026-11-28 10:04:00 -05:00: acknowledge by ben",
        "- 2026-11-28 10:05:00 -05:00: ana: topic mail_send paused",
        "- 2026-11-28 10:06:00 -05:00: note by ben: the server ## is down",
        "- 2026-11-28 11:00:00 -05:00: recovered: Done.",
    ]


def test_changes_of_the_day_before_and_releases_are_possible_causes(engine: Engine) -> None:
    assert section(play(engine), "What changed in the 24 h before") == [
        "- 2026-11-28 08:00:00 -05:00: ana (shop): timezone set",
        "- 2026-11-28 09:00:00 -05:00: beat: release 1.4 was replaced by 1.5",
    ]


def test_the_head_has_the_times_between_the_steps(engine: Engine) -> None:
    draft = play(engine)

    assert "| Shop | acme |" in draft
    assert "| Acknowledged | 2026-11-28 10:04:00 -05:00 by ben, 4 min after it opened |" in draft
    assert "| Lasted | 1 h |" in draft
    assert section(draft, "Figures") == ["- dead: 3"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "at once"), (0.4, "at once"), (12, "12 s after it opened"), (7260, "2 h 1 min after it opened")],
)
def test_the_time_to_a_step_is_in_words(tx: Connection, seconds: float, words: str) -> None:
    record_incidents(tx, [Incident(None, "clocks_apart", "2026-11-28", "P1", "130 s apart")], NOW)
    acknowledge(tx, 1, by="ben", now=NOW + timedelta(seconds=seconds))

    draft = format_postmortem(read_record(tx, 1, NOW + HOUR))

    assert f"by ben, {words} |" in draft


def test_a_draft_without_changes_says_so_and_an_open_one_lasts_until_now(tx: Connection) -> None:
    record_incidents(tx, [Incident(None, "clocks_apart", "2026-11-28", "P1", "130 s apart")], NOW)
    draft = format_postmortem(read_record(tx, 1, NOW + 90 * MINUTE))

    assert "No person changed anything, and no other release was started." in draft
    assert "| Lasted | 1 h 30 min |" in draft
    assert "None recorded." in draft


def test_an_unknown_incident_is_refused(tx: Connection) -> None:
    with pytest.raises(InputInvalid, match="no incident has the id 7"):
        read_record(tx, 7, NOW)
