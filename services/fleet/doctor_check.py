"""The result of one check of ``fleet doctor``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DoctorCheck:
    """The result of one check: the observed state, and the remedy if it is not ``ok``."""

    check: str
    ok: bool
    seen: str
    remedy: str = ""
