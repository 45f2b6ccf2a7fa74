"""Times for people have one format: ``services.core.times`` alone writes it."""

import re
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from services.core.times import format_time

ROOT = Path(__file__).parents[2]
_FORMAT = re.compile(r"%H:%M|%Z\b|HH24|strftime\(")
NOT_FOR_PEOPLE = {
    "services/alerts/evaluate.py": "the period of an incident, a key in UTC",
    "services/alerts/gate.py": "the period of an incident, a key in UTC",
    "services/alerts/incident_mails.py": "the period of a mail, a key in UTC",
    "services/alerts/quiet.py": "hours of the clock, which are stored and compared",
    "services/alerts/states.py": "the period of an incident, a key in UTC",
    "services/alerts/work_rules.py": "the period of an incident, a key in UTC",
    "services/audit/queries.py": "the text that the audit chain signs",
    "services/cli/mail/send_test.py": "the period of a mail, a key in UTC",
    "services/console/charts.py": "the axis of a chart, whose zone is in its description",
    "services/core/log.py": "the clock in a line of the log of a terminal",
    "services/demo/night.py": "an argument of a command",
    "services/jobs/schedule.py": "the period of a run, a key in UTC",
    "services/mail/formatting.py": "a day and a time in a sentence, with the common offset",
    "services/providers/shopify.py": "Shopify's wire format",
    "services/sandbox/shopify/values.py": "Shopify's wire format",
    "services/shopify/backfill/orders.py": "Shopify's search syntax",
    "services/shopify/backfill/pager.py": "Shopify's search syntax",
}
"""Modules that format times otherwise, and what for."""


def test_no_other_module_formats_a_time_for_people() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("services", "tasks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".html", ".txt", ".toml") and _FORMAT.search(path.read_text())
    }

    assert found - {"services/core/times.py"} == NOT_FOR_PEOPLE.keys()


def test_a_time_has_its_offset_and_not_the_abbreviation_of_its_zone() -> None:
    vancouver, at = ZoneInfo("America/Vancouver"), datetime(2026, 11, 29, 14, 0, 5, tzinfo=UTC)

    assert format_time(at, vancouver) == "2026-11-29 07:00 -07:00"
    assert format_time(at, vancouver, with_seconds=True) == "2026-11-29 07:00:05 -07:00"
    assert format_time(at, UTC) == "2026-11-29 14:00 UTC"
    assert format_time(at, ZoneInfo("Asia/Kolkata")) == "2026-11-29 19:30 +05:30"
    assert format_time(at, ZoneInfo("America/St_Johns")) == "2026-11-29 10:30 -03:30"
    assert format_time(None) == "-"


def test_the_two_hours_of_a_clock_that_is_set_back_differ() -> None:
    toronto = ZoneInfo("America/Toronto")
    both = [datetime(2026, 11, 1, hour, 30, tzinfo=UTC) for hour in (5, 6)]

    assert [format_time(at, toronto) for at in both] == ["2026-11-01 01:30 -04:00", "2026-11-01 01:30 -05:00"]
