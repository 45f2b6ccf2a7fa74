"""Whether a run that ended looks like its job's other runs. Pure: figures in, words out."""

from collections.abc import Sequence
from statistics import median

FEWEST_RUNS = 5
"""So many earlier runs make a history; before that nothing is usual."""
SHORT_SHARE = 0.1
"""Of the usual run time."""
SHORT_MATTERS_SECONDS = 5.0
"""A job that is usually done sooner has no run time to speak of."""
SMALL_SHARE = 0.25
"""Of the usual volume."""
SMALL_MATTERS = 8.0
"""A job that usually does less has no volume to speak of."""


def judge_run_time(seconds: float, min_seconds: float, past_seconds: Sequence[float]) -> str:
    """Return why a run of ``seconds`` was too short, or nothing."""
    if seconds < min_seconds:
        return f"ended after {seconds:.1f} s, which is less than the {min_seconds:g} s it needs at least"
    usual = median(past_seconds) if len(past_seconds) >= FEWEST_RUNS else 0.0
    if usual >= SHORT_MATTERS_SECONDS and seconds < usual * SHORT_SHARE:
        return f"ended after {seconds:.1f} s, and usually takes {usual:.1f} s"
    return ""


def judge_volume(name: str, volume: float, past_volumes: Sequence[float]) -> str:
    """Return why a run that did ``volume`` did too little, or nothing. ``name`` says what is counted."""
    usual = median(past_volumes) if len(past_volumes) >= FEWEST_RUNS else 0.0
    if usual >= SMALL_MATTERS and volume < usual * SMALL_SHARE:
        return f"only {volume:g} {name}, where {usual:g} are usual"
    return ""
