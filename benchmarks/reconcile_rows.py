"""Recorded rows and Stripe rows of the reconciliation benchmark, with planted breaks.

Row ``n`` and what is planted in it follow from ``n`` alone, so neither side is ever held as a whole. Of a
thousand rows seven are broken, one of each kind.
"""

import json
import marshal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path

from benchmarks.memory import peak_mib
from services.payments.comparison import DayComparison
from services.payments.stripe_lists import ROWS_PER_BLOCK, StripeRow

BEGINS = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
ENDS = BEGINS + timedelta(days=1)
NOW = ENDS + timedelta(minutes=5)
DAY = DayComparison(1, date(2026, 11, 20), BEGINS, ENDS, "bench", NOW)
KINDS = ("missing_here", "missing_there", "amount", "currency", "status", "fee", "duplicate")
"""Breaks planted in rows 100, 200, ... of every thousand."""

Break = tuple[str, str]
"""(kind, provider id)."""

_BEGAN = int(BEGINS.timestamp())


def _plant(n: int) -> str:
    place = n % 1000
    return KINDS[place // 100 - 1] if place and place % 100 == 0 and place <= 700 else ""


def _row(n: int) -> StripeRow:
    order = n - 1 if _plant(n) == "duplicate" else n
    return StripeRow(
        "charge",
        f"ch_3QK8fT2eZvKYlo2C{n:08d}",
        1000 + (order * 37) % 90_000,
        "CAD",
        "paid",
        _BEGAN + n % 86_400,
        f"pi_3QK8fT2eZvKYlo2C{n:08d}",
        f"gid://shopify/Order/{5_000_000_000_000 + order}",
        0,
        59,
    )


def our_rows(count: int) -> Iterator[StripeRow]:
    """Yield the recorded rows, without those planted as missing here."""
    return (_row(n) for n in range(count) if _plant(n) != "missing_here")


def their_rows(count: int) -> Iterator[StripeRow]:
    """Yield Stripe's rows, without those planted as missing there and with the other differences."""
    for n in range(count):
        row, planted = _row(n), _plant(n)
        match planted:
            case "":
                yield row
            case "amount":
                yield row._replace(amount_cents=row.amount_cents + 1)
            case "currency":
                yield row._replace(currency="USD")
            case "status":
                yield row._replace(status="failed")
            case "fee":
                yield row._replace(fee_cents=60)
            case "missing_here" | "duplicate":
                yield row


def planted_breaks(count: int) -> set[Break]:
    """Return every planted break."""
    return {(kind, _row(n).provider_id) for n in range(100, count, 100) if (kind := _plant(n))}


def write_their_rows(path: Path, count: int) -> None:
    """Write Stripe's rows to ``path``, in blocks that are fast to read."""
    rows = (tuple(row) for row in their_rows(count))
    with path.open("wb") as file:
        while block := list(islice(rows, ROWS_PER_BLOCK)):
            content = marshal.dumps(block)
            file.write(len(content).to_bytes(4) + content)


def read_their_rows(path: Path) -> Iterator[StripeRow]:
    """Yield what ``write_their_rows`` wrote, a block in memory at a time."""
    with path.open("rb") as file:
        while size := file.read(4):
            yield from map(StripeRow._make, marshal.loads(file.read(int.from_bytes(size))))


def report(work: Callable[[], set[Break]], path: Path, rows: int) -> None:
    """Time ``work``, compare what it found with what was planted, and print the figures as JSON.

    Reading Stripe's rows takes both ways the same time, is measured by itself and taken off: elsewhere it is
    the network's. The answer key is made after the memory was read: it is not the way's own.
    """
    source = min(_drain(path) for _ in range(2))
    began, cpu = time.perf_counter(), time.process_time()
    found = work()
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_mib()
    planted = planted_breaks(rows)
    if found != planted:
        missed, invented = sorted(planted - found)[:3], sorted(found - planted)[:3]
        raise SystemExit(f"found {len(found)} of {len(planted)}: missed {missed}, invented {invented}")
    figures = {
        "seconds": round(seconds - source, 3),
        "with_source_seconds": round(seconds, 3),
        "cpu_seconds": round(cpu_seconds, 3),
        "peak_mib": round(peak, 1),
        "breaks": len(found),
    }
    print(json.dumps(figures))


def _drain(path: Path) -> float:
    began = time.perf_counter()
    for _ in read_their_rows(path):
        pass
    return time.perf_counter() - began
