"""Latency histograms with fixed buckets: those of several minutes and processes can be added. Pure."""

from collections.abc import Sequence

BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
"""The most milliseconds of each bucket; one more bucket has all that took longer.

``bisect_left(BOUNDS_MS, duration)`` is the bucket of a duration."""
BUCKETS = len(BOUNDS_MS) + 1


def add_sql(ours: str, other: str) -> str:
    """Return the SQL of the sum of two arrays of counts, of which one may be empty."""
    return f"""
(select coalesce(array_agg(coalesce(a, 0) + coalesce(b, 0) order by n), '{{}}')
   from unnest({ours}, {other}) with ordinality as v(a, b, n))
"""  # noqa: S608 - the names of two columns


ADD_SQL = add_sql("c.latency", "excluded.latency")
"""SQL: the sum of a row's histogram and the one to be added, in ``insert into ... as c ... on conflict``."""


def format_buckets(counts: Sequence[int]) -> str:
    """Return a histogram as the literal of an array."""
    return f"{{{','.join(map(str, counts))}}}"


def estimate_percentile_ms(counts: Sequence[int], share: float) -> float:
    """Return the time that ``share`` of the requests did not exceed; 0 without any.

    Exact at the bounds, in between interpolated. The last bucket has no upper bound: its lower one counts.
    """
    wanted, below = share * sum(counts), 0
    for number, count in enumerate(counts):
        if count and below + count >= wanted:
            lower = BOUNDS_MS[number - 1] if number else 0
            upper = BOUNDS_MS[number] if number < len(BOUNDS_MS) else lower
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return 0.0
