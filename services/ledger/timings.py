"""Histograms of work: how long it waited, ran, and took from its webhook to its effect. Pure.

The three are one array of whole numbers, so that they are added in one expression of a statement.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

BOUNDS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""The most seconds of each bucket; one more bucket has all that took longer."""
HISTOGRAMS = ("wait", "run", "effect")
_WIDTH = len(BOUNDS_SECONDS) + 2
EFFECT_SLICE = slice(2 * _WIDTH, 3 * _WIDTH - 1)
"""The counts of the last histogram, without its sum."""


def count_timings(waits: Sequence[float], runs: Sequence[float], effects: Sequence[float]) -> list[int]:
    """Return the three histograms of these seconds: each the counts of its buckets, then the sum in ms.

    An item that waited for less than no time, because clocks differ, counts in the first bucket.
    """
    return [*_count(waits), *_count(runs), *_count(effects)]


def _count(seconds: Sequence[float]) -> list[int]:
    # Sorted, so that one search per bound finds the counts: a search per item takes twice as long.
    ordered = sorted(seconds)
    below = [bisect_right(ordered, bound) for bound in BOUNDS_SECONDS]
    counts = [after - before for before, after in pairwise((0, *below, len(ordered)))]
    return [*counts, max(0, round(sum(ordered) * 1000))]


def split_timings(timings: Sequence[int]) -> Iterator[tuple[str, Sequence[int], float]]:
    """Yield each histogram that has counts: its name, the counts of its buckets, and its sum in seconds."""
    for number, name in enumerate(HISTOGRAMS):
        *counts, total_ms = timings[number * _WIDTH : (number + 1) * _WIDTH] or [0]
        if any(counts):
            yield name, counts, total_ms / 1000


def estimate_percentile(counts: Sequence[int], share: float) -> float | None:
    """Return the seconds that ``share`` of the items did not exceed; None without any.

    Exact at the bounds, in between interpolated. The last bucket has no upper bound: its lower one counts.
    """
    wanted, below = share * sum(counts), 0
    for number, count in enumerate(counts):
        if count > 0 and below + count >= wanted:
            lower = BOUNDS_SECONDS[number - 1] if number else 0.0
            upper = BOUNDS_SECONDS[min(number, len(BOUNDS_SECONDS) - 1)]
            return lower + (upper - lower) * (wanted - below) / count
        below += count
    return None
