"""Charts: gaps, round axes, times in a zone, and the data as text."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.console.charts import SECONDS, SPANS, Chart, Line, format_value, plan_chart

UNTIL = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ZONE = ZoneInfo("America/Toronto")
SPAN = SPANS["1h"]


def plan(values: list[float | None], *, unit: str = "items", missing: tuple[int, ...] = ()) -> Chart:
    """Return a chart of ``values``, a minute each; the steps ``missing`` have no time."""
    kept = [number for number in range(len(values)) if number not in missing]
    times = [UNTIL - timedelta(minutes=len(values) - number) for number in kept]
    line = Line("Ready", [values[number] for number in kept])
    return plan_chart("Backlog", unit, times, [line], SPAN, UNTIL, ZONE)


def test_a_line_breaks_where_a_value_or_a_sample_is_missing() -> None:
    (path,) = plan([1, 2, None, 3, 4, 5, 6], missing=(4,)).paths

    assert path.count("M") == 3
    assert path.count("h0") == 1, "a single point is a dot"


def test_without_samples_there_is_an_empty_chart() -> None:
    chart = plan([])

    assert chart.paths == [""]
    assert "no figures" in chart.description
    assert chart.rows == []


def test_the_axes_are_round_and_in_the_zone() -> None:
    chart = plan([1, 37])

    assert [tick.label for tick in chart.y_ticks] == ["0", "25", "50"]
    assert [tick.label for tick in chart.x_ticks] == ["06:00", "06:15", "06:30", "06:45", "07:00"]
    assert "07:00 -05:00, America/Toronto." in chart.description
    assert "Ready: at most 37 (2026-11-20 06:59 -05:00), last 37." in chart.description


@pytest.mark.parametrize("top", [0.004, 0.99, 1, 1.01, 7, 99, 3600, 86_400, 86_401, 1e9])
@pytest.mark.parametrize("unit", [SECONDS, "items"])
def test_every_value_is_within_the_chart(top: float, unit: str) -> None:
    chart = plan([0, top], unit=unit)

    lowest, highest = (float(one.split(",")[1]) for one in chart.paths[0][1:].replace("L", " ").split())
    assert chart.y_ticks[-1].place <= highest < lowest == chart.y_ticks[0].place


def test_the_data_is_a_table_with_the_newest_first() -> None:
    assert plan([1, None, 2.5]).rows == [
        ("2026-11-20 06:59 -05:00", ["2.5"]),
        ("2026-11-20 06:58 -05:00", ["–"]),
        ("2026-11-20 06:57 -05:00", ["1"]),
    ]


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, SECONDS, "–"), (0.0, SECONDS, "0 s"), (0.25, SECONDS, "0.25 s"), (90.0, SECONDS, "1.5 min"),
        (7200.0, SECONDS, "2 h"), (172800.0, SECONDS, "2 d"), (12345.6, "items", "12,346"),
        (0.05, "items", "0.05"),
    ],
)  # fmt: skip
def test_values_are_short(value: float | None, unit: str, shown: str) -> None:
    assert format_value(value, unit) == shown


@pytest.mark.parametrize("name", SPANS)
def test_days_with_a_change_of_clocks_have_ticks_at_local_times(name: str) -> None:
    until = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
    chart = plan_chart("Backlog", "items", [], [], SPANS[name], until, ZONE)

    assert len(chart.x_ticks) >= 3
    assert all(label.endswith((":00", ":15", ":30", ":45")) or name == "7d" for _, label in chart.x_ticks)
