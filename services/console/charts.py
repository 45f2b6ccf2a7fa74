"""Line charts as SVG, drawn on the server: the geometry of a chart, for ``_charts.html``. Pure."""

from collections.abc import Iterator, Sequence
from datetime import datetime, time, timedelta
from math import ceil, log10
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.core.times import format_time

WIDTH, HEIGHT = 400, 170
LEFT, RIGHT, TOP, BOTTOM = 52, 18, 10, 24
SECONDS = "s"
CLOCK, DAY = "%H:%M", "%a %d"
_DURATIONS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


class Span(NamedTuple):
    """The time that a chart covers, the step between its points, and between the times on its axis."""

    length: timedelta
    step: timedelta
    tick: timedelta
    form: str


SPANS = {
    "1h": Span(timedelta(hours=1), timedelta(minutes=1), timedelta(minutes=15), CLOCK),
    "24h": Span(timedelta(hours=24), timedelta(minutes=10), timedelta(hours=6), CLOCK),
    "7d": Span(timedelta(days=7), timedelta(hours=1), timedelta(days=2), DAY),
}


class Line(NamedTuple):
    """A line of a chart. None is a gap."""

    label: str
    values: Sequence[float | None]


class Tick(NamedTuple):
    """A value on an axis, and its place."""

    place: float
    label: str


class Chart(NamedTuple):
    """A chart that is ready to be drawn. ``paths`` has the data of one SVG path for each line."""

    title: str
    description: str
    lines: Sequence[Line]
    paths: Sequence[str]
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    rows: Sequence[tuple[str, Sequence[str]]]
    """The data as a table, the newest first: a time, and the value of each line."""


def plan_chart(
    title: str,
    unit: str,
    times: Sequence[datetime],
    lines: Sequence[Line],
    span: Span,
    until: datetime,
    zone: ZoneInfo,
) -> Chart:
    """Return the chart of ``lines`` at ``times``. A step without a time is a gap.

    Values of the ``unit`` ``SECONDS`` are shown as durations.
    """
    since = until - span.length
    known = [value for line in lines for value in line.values if value is not None]
    top = _round_up(max(known, default=0.0), unit)

    def x(at: datetime) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * ((at - since) / span.length)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top

    described = [_describe(line, times, unit, zone) for line in lines]
    return Chart(
        f"{title}{'' if unit == SECONDS else f', {unit}'}",
        f"From {format_time(since, zone)} to {format_time(until, zone)}, {zone.key}. {' '.join(described)}",
        lines,
        [
            _draw(
                [
                    (x(at), None if value is None else y(value), at)
                    for at, value in zip(times, line.values, strict=True)
                ],
                span.step,
            )
            for line in lines
        ],
        [Tick(x(at), label) for at, label in _list_ticks(since, until, span, zone)],
        [Tick(y(top * share), format_value(top * share, unit)) for share in (0, 0.5, 1)],
        [
            (format_time(at, zone), [format_value(line.values[number], unit) for line in lines])
            for number, at in reversed([*enumerate(times)])
        ],
    )


def format_value(value: float | None, unit: str) -> str:
    """Return ``value`` as text; None is a dash."""
    if value is None:
        return "–"
    if unit != SECONDS:
        return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.2g}"
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:.3g} s"


def _round_up(value: float, unit: str) -> float:
    """Return a round number that is not below ``value``."""
    if value <= 0:
        return 1.0
    if unit == SECONDS and 1 < value <= _DURATIONS[-1]:
        return float(next(one for one in _DURATIONS if one >= value))
    size = 10.0 ** (ceil(log10(value)) - 1)
    return next(size * one for one in (1, 2, 5, 10) if size * one >= value * 0.999999)


def _draw(points: Sequence[tuple[float, float | None, datetime]], step: timedelta) -> str:
    """Return the path of the points: a stroke for each run without a gap, and a dot for a single one."""
    runs: list[list[str]] = []
    last: datetime | None = None
    for x, y, at in points:
        if y is None:
            last = None
            continue
        if last is None or at - last > step * 1.5:
            runs.append([])
        runs[-1].append(f"{x:.1f},{y:.1f}")
        last = at
    return " ".join(f"M{run[0]}" + ("L" + " ".join(run[1:]) if len(run) > 1 else "h0") for run in runs)


def _list_ticks(
    since: datetime, until: datetime, span: Span, zone: ZoneInfo
) -> Iterator[tuple[datetime, str]]:
    """Yield times between, round in ``zone``."""
    midnight = datetime.combine(since.astimezone(zone).date(), time.min)
    number = 0
    while (at := (midnight + number * span.tick).replace(tzinfo=zone)) <= until:
        if at >= since:
            yield at, f"{at:{span.form}}"
        number += 1


def _describe(line: Line, times: Sequence[datetime], unit: str, zone: ZoneInfo) -> str:
    known = [(value, at) for value, at in zip(line.values, times, strict=True) if value is not None]
    if not known:
        return f"{line.label}: no figures."
    highest, at = max(known, key=lambda one: one[0])
    return (
        f"{line.label}: at most {format_value(highest, unit)} ({format_time(at, zone)}), "
        f"last {format_value(known[-1][0], unit)}."
    )
