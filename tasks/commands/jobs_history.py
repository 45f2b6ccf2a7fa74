"""What ``fleet jobs history`` shows of a run."""

from typing import Any

from services.cli.output import format_time, to_document
from services.jobs.complete_run import format_stats
from services.jobs.history import RunLine
from services.ledger.work import FLEET

COLUMNS = ("run", "job", "shop", "period", "due", "started", "took", "status", "stats", "by", "error")
LONGEST_ERROR = 160


def run_document(line: RunLine, slugs: dict[int, str]) -> dict[str, Any]:
    """Return the run for programs."""
    return to_document(line) | {"duration_seconds": line.seconds, "shop": _slug(line, slugs)}


def run_cells(line: RunLine, slugs: dict[int, str]) -> tuple[object, ...]:
    """Return the run's line of the table."""
    error = line.error or ""
    if line.next_try_at is not None:
        error = f"next try {format_time(line.next_try_at)}: {error}"
    return (
        line.id,
        line.job,
        _slug(line, slugs),
        line.period,
        line.due_at,
        line.started_at,
        "" if line.seconds is None else f"{line.seconds:.1f} s",
        line.status,
        format_stats(line.stats) if line.stats else "",
        f"{line.started_by} ({line.origin})" if line.started_by != line.origin else line.origin,
        error[:LONGEST_ERROR],
    )


def _slug(line: RunLine, slugs: dict[int, str]) -> str:
    return slugs.get(FLEET if line.shop_id is None else line.shop_id, str(line.shop_id))
