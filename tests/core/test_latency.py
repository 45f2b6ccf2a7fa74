"""Percentiles of histograms: exact at the bounds, between the values of their bucket elsewhere."""

from bisect import bisect_left
from random import Random

import pytest

from services.core.latency import BOUNDS_MS, BUCKETS, estimate_percentile_ms


def histogram(*durations_ms: float) -> list[int]:
    counts = [0] * BUCKETS
    for duration in durations_ms:
        counts[bisect_left(BOUNDS_MS, duration)] += 1
    return counts


def test_a_percentile_lies_in_the_bucket_of_the_exact_one() -> None:
    random = Random(7)
    for _ in range(200):
        durations = sorted(10 ** random.uniform(-1, 4.5) for _ in range(random.randint(1, 300)))
        exact = durations[max(0, -(-len(durations) * 95 // 100) - 1)]
        bucket = bisect_left(BOUNDS_MS, exact)
        lower = BOUNDS_MS[bucket - 1] if bucket else 0
        upper = BOUNDS_MS[min(bucket, len(BOUNDS_MS) - 1)]
        assert lower <= estimate_percentile_ms(histogram(*durations), 0.95) <= upper


@pytest.mark.parametrize(("slow", "is_beyond"), [(5, False), (6, True)])
def test_a_limit_that_is_a_bound_is_exact(slow: int, is_beyond: bool) -> None:
    counts = histogram(*[200.0] * (100 - slow), *[200.1] * slow)

    assert (estimate_percentile_ms(counts, 0.95) > 200) is is_beyond


def test_without_a_request_it_is_zero_and_beyond_the_last_bound_it_is_that_bound() -> None:
    assert estimate_percentile_ms(histogram(), 0.95) == 0
    assert estimate_percentile_ms(histogram(90_000.0), 0.95) == BOUNDS_MS[-1]
