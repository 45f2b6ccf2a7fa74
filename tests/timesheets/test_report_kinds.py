"""Each kind of report, from one week of timesheets."""

from dataclasses import replace
from datetime import date

import pytest

from services.core.errors import InputInvalid
from services.timesheets.hours import HoursKind
from services.timesheets.report_files import format_row
from services.timesheets.report_kinds import KINDS, get_kind, make_table
from services.timesheets.report_table import ReportInput, Unit
from tests.timesheets.samples import make_entry, make_input, make_sheet

DANA, SUM, ZOE = "Dana Ruiz", "=SUM(A1)", "Zoë Łuczak"
EXPECTED = {
    "hours-by-person": [
        [SUM, "1", "1", "7.50", "0.00", "7.50"],
        [DANA, "3", "3", "23.33", "8.00", "31.33"],
        [ZOE, "1", "1", "2.00", "0.00", "2.00"],
    ],
    "hours-by-job-code": [["Holiday", "1", "8.00"], ["Repairs", "3", "32.83"]],
    "payroll": [
        [SUM, "8", "7.50", "0.00", "0.00", "0.00", "7.50", "CA-BC"],
        [DANA, "E-07", "18.00", "4.33", "1.00", "8.00", "31.33", "CA-BC"],
        [ZOE, "", "2.00", "0.00", "0.00", "0.00", "2.00", "CA-BC"],
    ],
    "overtime": [
        [DANA, "2026-11-16", "13.00", "8.00", "4.00", "1.00", "CA-BC"],
        [DANA, "2026-11-17", "8.33", "8.00", "0.33", "0.00", "CA-BC"],
    ],
    "on-the-clock": [[ZOE, "2026-11-20 09:00 -07:00", "Repairs", "48.00"]],
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_lists_the_week(name: str) -> None:
    table = make_table(KINDS[name], make_input())
    assert [format_row(row, table) for row in table.rows] == EXPECTED[name]


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_empty_without_timesheets(name: str) -> None:
    table = make_table(KINDS[name], make_input(sheets=()))
    assert table.rows == []
    assert {total for total in table.totals if total is not None} <= {0}


def test_a_total_is_rounded_from_its_own_seconds() -> None:
    sheets = [make_entry(number, number, "2026-11-16", 1 / 3, HoursKind.WORK) for number in range(3)]
    table = make_table(KINDS["hours-by-person"], make_input(sheets=sheets))
    assert [format_row(row, table)[-1] for row in table.rows] == ["0.33"] * 3
    assert format_row(table.totals, table) == ["", "", "3", "1.00", "0.00", "1.00"]


def test_hours_by_rate_add_up_to_the_hours_worked() -> None:
    worked = {row[0]: row[5] for row in make_table(KINDS["hours-by-person"], make_input()).rows}
    paid = {row[0]: row[6] for row in make_table(KINDS["payroll"], make_input()).rows}
    assert paid == worked


def notes_of(name: str, given: ReportInput) -> str:
    return "\n".join(make_table(KINDS[name], given).notes)


def test_the_notes_name_the_rule_and_what_is_not_counted() -> None:
    backwards = make_sheet(20, 8, "2026-11-16T10:00", "2026-11-16T09:00")
    long = make_sheet(21, 8, "2026-11-16T10:00", "2026-11-17T10:01")
    given = make_input(sheets=[*make_input().sheets, backwards, long])
    notes = notes_of("payroll", given)
    assert "British Columbia: overtime over 8 h a day and over 40 h a week" in notes
    assert "1 shift still open, Zoë Łuczak on 2026-11-20" in notes
    assert "1 shift ends before it starts, =SUM(A1) on 2026-11-16" in notes
    assert "1 shift longer than 24 h" in notes
    assert "A day begins at midnight" in notes
    assert "The last week ends" not in notes
    cut = replace(given, last=date(2026, 11, 18))
    assert "The last week ends on 2026-11-21, after this period" in notes_of("payroll", cut)
    assert "A day begins at 05:00" in notes_of("payroll", replace(given, day_begins=5))


def test_the_notes_name_no_shift_after_the_last_day() -> None:
    night = [make_sheet(20, 8, "2026-11-22T02:00"), make_sheet(21, 9, "2026-11-22T02:00", "2026-11-22T01:00")]
    given = make_input(sheets=night)
    assert "Not counted" not in notes_of("payroll", given)
    of_the_night = notes_of("payroll", replace(given, day_begins=5))
    assert "1 shift still open" in of_the_night
    assert "1 shift ends before" in of_the_night


def test_a_week_that_began_before_the_period_counts_its_earlier_days() -> None:
    days = [make_entry(day, 7, f"2026-11-{day}", 8, HoursKind.WORK) for day in range(15, 22)]
    given = replace(make_input("CA-ON", days), first=date(2026, 11, 19))
    table = make_table(KINDS["payroll"], given)
    assert format_row(table.rows[0], table)[2:4] == ["12.00", "12.00"], "32 h were before the period"


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputInvalid, match=r"kind='hours'.*hours-by-person"):
        get_kind("hours")


def test_every_hours_column_holds_whole_seconds() -> None:
    for kind in KINDS.values():
        for row in make_table(kind, make_input()).rows:
            for value, column in zip(row, kind.columns, strict=True):
                assert column.unit is not Unit.HOURS or type(value) is int
