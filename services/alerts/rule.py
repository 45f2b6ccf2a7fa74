"""What a rule is: recorded by a room, or evaluated from a figure. Pure."""

from dataclasses import dataclass
from datetime import timedelta

from services.alerts.runbook import Steps, read_runbook
from services.mail.formatting import span

NOW = timedelta(0)
FAILED = "P2"
"""The severity beyond ``FigureRule.fails_at``."""
MINUTES_2, MINUTES_10 = timedelta(minutes=2), timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRule:
    """One rule. ``severity`` is P1 (act now), P2 (act today) or P3 (act when there is time)."""

    name: str
    severity: str
    about: str
    """What is wrong, for a table."""
    recovers: str = ""
    """When it ends, if a room records it."""

    @property
    def ends(self) -> str:
        """When it ends, for a table."""
        return self.recovers

    @property
    def opens(self) -> str:
        """When it opens, for a table."""
        return "when it is found"

    @property
    def steps(self) -> Steps:
        """What a person does."""
        return read_runbook()[self.name]


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRule(AlertRule):
    """A rule that compares a figure with ``threshold``.

    It opens after the figure is beyond for ``lasts``, and recovers after it is not for ``clears``.
    """

    summary: str
    """A format with ``value``, ``limit`` and the detail of the figure."""
    unit: str
    threshold: float
    fails_at: float | None = None
    """A second threshold: beyond it the incident is a P2, also if it was open before."""
    lowest: float = 0
    """The lowest threshold that a person can set: its figures begin there."""
    window: timedelta = NOW
    """The time over which the figure is computed; zero: the value of the moment."""
    is_inclusive: bool = False
    """Whether a figure equal to ``threshold`` is beyond it."""
    is_least: bool = False
    """Whether values below ``threshold`` are beyond it, such as days that remain."""
    is_of_fleet: bool = False
    """Whether its figures belong to no shop, so that no shop can have a threshold of its own."""
    is_age: bool = False
    """Whether its figure grows with the time alone: then an open incident does not get worse."""
    lasts: timedelta = NOW
    clears: timedelta = MINUTES_10
    """At least two minutes, or a figure that comes and goes sends a message at each evaluation."""

    @property
    def opens(self) -> str:
        """When it opens, for a table."""
        sign = ("<" if self.is_least else ">") + ("=" if self.is_inclusive else "")
        lasts = f" for {self.lasts / timedelta(minutes=1):g} min" if self.lasts else ""
        fails = "" if self.fails_at is None else f"; P2: {sign} {self.fails_at:g}"
        return f"{sign} {self.threshold:g} {self.unit}{lasts}{fails}"

    @property
    def ends(self) -> str:
        """When it ends, for a table."""
        return f"within its limit for {span(self.clears)}"

    def is_beyond(self, value: float, threshold: float) -> bool:
        """Return whether ``value`` is beyond ``threshold``."""
        if value == threshold:
            return self.is_inclusive
        return value < threshold if self.is_least else value > threshold

    def find_severity(self, value: float) -> str:
        """Return the severity of an incident with this figure."""
        is_failure = self.fails_at is not None and self.is_beyond(value, self.fails_at)
        return min(self.severity, FAILED) if is_failure else self.severity
