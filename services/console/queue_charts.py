"""Charts of a queue, or of all queues, from their samples."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.console.charts import SECONDS, SPANS, Chart, Line, plan_chart
from services.ledger.queue_samples import list_points

LINES = (
    ("In and out", "items / min", (("In", "in_rate"), ("Out", "out_rate"))),
    (
        "Backlog",
        "items",
        (("Ready", "ready"), ("Locked", "locked"), ("Retrying", "retrying"), ("Dead", "dead")),
    ),
    ("Oldest ready work", SECONDS, (("Age", "oldest"),)),
    ("Webhook to effect, 95% within", SECONDS, (("Time", "effect"),)),
)
"""Title, unit and lines of each chart; a line has a label and a field of a point."""


def list_charts(tx: Connection, queue: str, span_name: str, now: datetime, zone: ZoneInfo) -> list[Chart]:
    """Return the charts of ``queue`` (see ``list_points``) up to the last whole minute before ``now``."""
    span = SPANS[span_name]
    until = now.replace(second=0, microsecond=0)
    points = list_points(tx, queue, until - span.length, until - timedelta(minutes=1), span.step)
    return [
        plan_chart(
            title,
            unit,
            [point.at for point in points],
            [Line(label, [getattr(point, field) for point in points]) for label, field in lines],
            span,
            until,
            zone,
        )
        for title, unit, lines in LINES
    ]
