"""A person with a consent, as a file or the API gives it. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from services.core.counts import format_count
from services.core.errors import InputInvalid
from services.core.fields import Unreadable, as_instant
from services.core.log_redaction import quote_value
from services.core.setting_urls import is_full_address
from services.core.zone_names import describe_zone_fault, is_zone
from services.outreach.tables import BASES

T = TypeVar("T")

REQUIRED = ("external_id", "email")
COLUMNS = (
    *REQUIRED, "name", "timezone", "signed_up_at", "last_active_at", "consent", "consent_source",
    "consent_given_at", "consent_expires_at",
)  # fmt: skip
MAX_PEOPLE = 5000
"""Most people of one request to the API, and of one statement."""
LONGEST = {"external_id": 200, "email": 254, "name": 200, "consent_source": 500}
CLOCK_DIFFERENCE = timedelta(hours=1)
"""A time may be later than now by so much: the operator's clock may be ahead."""


class PeopleInvalid(InputInvalid):
    """People cannot be imported. The message names each wrong line or place with its field and value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewConsent:
    """A consent to commercial mail. ``source`` says where it was given."""

    basis: str
    source: str
    given_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPerson:
    """A person of a shop. Empty fields and times that are None keep what is stored."""

    external_id: str
    email: str
    name: str = ""
    timezone: str = ""
    signed_up_at: datetime | None = None
    last_active_at: datetime | None = None
    consent: NewConsent | None = None


@dataclass(slots=True)
class PersonParser:
    """Parses the people of one import; ``now`` bounds their times."""

    now: datetime
    seen: dict[str, int] = field(default_factory=dict)
    zones: set[str] = field(default_factory=lambda: {""})

    def parse(self, cells: Mapping[str, str], place: int) -> NewPerson:
        """Return the person of line ``place``; raise ``ValueError`` naming every wrong field."""
        faults: list[str] = []

        def read(read_one: Callable[..., T], *values: Any, **options: Any) -> T | None:
            try:
                return read_one(*values, **options)
            except (ValueError, Unreadable) as fault:
                faults.append(str(fault))
                return None

        for name, most in LONGEST.items():
            read(_check_text, cells, name, most)
        if cells["email"] and not is_full_address(cells["email"]):
            wanted = "should be one mail address such as ada@example.com"
            faults.append(f"email={quote_value(cells['email'])} {wanted}")
        read(self._check_zone, cells["timezone"])
        first = self.seen.setdefault(cells["external_id"], place)
        if first != place:
            faults.append(f"external_id={cells['external_id']!r} is in line {first} already")
        given_at = read(self._read_time, cells, "consent_given_at")
        expires_at = read(self._read_time, cells, "consent_expires_at", is_past=False)
        person = NewPerson(
            external_id=cells["external_id"],
            email=cells["email"].lower(),
            name=cells["name"],
            timezone=cells["timezone"],
            signed_up_at=read(self._read_time, cells, "signed_up_at"),
            last_active_at=read(self._read_time, cells, "last_active_at"),
            consent=read(_read_consent, cells, given_at, expires_at),
        )
        if faults:
            raise ValueError("; ".join(faults))
        return person

    def _check_zone(self, zone: str) -> None:
        if zone not in self.zones and not is_zone(zone):
            raise ValueError(f"timezone={zone!r} {describe_zone_fault(zone)}")
        self.zones.add(zone)

    def _read_time(self, cells: Mapping[str, str], name: str, *, is_past: bool = True) -> datetime | None:
        if not cells[name]:
            return None
        at = as_instant(cells[name], name)
        if is_past and at > self.now + CLOCK_DIFFERENCE:
            raise ValueError(f"{name}={cells[name]!r} should not be in the future")
        return at


def _check_text(cells: Mapping[str, str], name: str, most: int) -> None:
    value = cells[name]
    if name in REQUIRED and not value:
        raise ValueError(f"{name} is empty: each person needs one")
    if len(value) > most or not value.isprintable():
        shown = quote_value(value)
        raise ValueError(f"{name}={shown} should have at most {format_count(most, 'printable character')}")


def _read_consent(
    cells: Mapping[str, str], given_at: datetime | None, expires_at: datetime | None
) -> NewConsent | None:
    basis, source = cells["consent"], cells["consent_source"]
    if not basis:
        if source or given_at or expires_at:
            raise ValueError(f"consent is empty: it should be {' or '.join(BASES)}, with its source and time")
        return None
    if basis not in BASES:
        raise ValueError(f"consent={basis!r} should be {' or '.join(BASES)}")
    if not source:
        raise ValueError("consent_source is empty: it should say where the person consented")
    if given_at is None:
        raise ValueError("consent_given_at is empty or wrong: each consent needs its time")
    if basis == "implied" and expires_at is None:
        raise ValueError(
            "consent_expires_at is empty: implied consent ends, in Canada 2 years after a purchase and "
            "6 months after an inquiry"
        )
    if expires_at is not None and expires_at <= given_at:
        raise ValueError(f"consent_expires_at={cells['consent_expires_at']!r} should be after its beginning")
    return NewConsent(basis=basis, source=source, given_at=given_at, expires_at=expires_at)


def parse_people(given: object, now: datetime) -> list[NewPerson]:
    """Return the people of a JSON list; raise ``PeopleInvalid`` naming each wrong one by its place."""
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_PEOPLE:
        raise PeopleInvalid(f"people should be a list of 1 to {MAX_PEOPLE:,} objects")
    parser, people, faults = PersonParser(now), [], []
    for place, one in enumerate(given, 1):
        try:
            people.append(parser.parse(_read_cells(one), place))
        except ValueError as fault:
            faults.append(f"people {place}: {fault}")
    if faults:
        raise PeopleInvalid("nothing was changed: " + "; ".join(faults[:20]))
    return people


def _read_cells(one: object) -> Mapping[str, str]:
    if not isinstance(one, dict) or not set(one) <= set(COLUMNS):
        raise ValueError(f"it should be an object with fields of {', '.join(COLUMNS)}")
    wrong = [name for name, value in one.items() if not isinstance(value, str | None)]
    if wrong:
        raise ValueError(f"{wrong[0]}={one[wrong[0]]!r} should be a text or null")
    return {name: (one.get(name) or "").strip() for name in COLUMNS}
