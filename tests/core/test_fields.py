"""A time outside the valid years is refused, and the message names its field."""

from datetime import UTC, datetime

import pytest

from services.core.fields import Unreadable, find_instant, read_epoch, read_instant
from services.providers import delivery

SECONDS_9998 = 253_339_228_800
FAR = (
    "9998-06-01T00:00:00Z",
    "9999-12-31T23:59:59-08:00",
    "0001-01-01T00:00:00+14:00",
    "1999-12-31T23:59:59Z",
    "2100-01-01T00:00:00Z",
)


@pytest.mark.parametrize("text", FAR)
def test_time_outside_the_valid_years_is_unreadable_and_names_the_field(text: str) -> None:
    for read in (read_instant, find_instant):
        with pytest.raises(Unreadable, match=r"^updated_at is .* of the years 2000 to 2099$"):
            read({"updated_at": text}, "updated_at")


@pytest.mark.parametrize("seconds", [SECONDS_9998, 2**35 - 1, 0, 946_684_799, 4_102_444_800, -1])
def test_epoch_outside_the_valid_years_is_unreadable_and_names_the_field(seconds: int) -> None:
    with pytest.raises(Unreadable, match=r"^created is .*: it should be seconds since 1970, of the years"):
        read_epoch({"created": seconds}, "created")


def test_first_and_last_moment_are_read() -> None:
    first, last = datetime(2000, 1, 1, tzinfo=UTC), datetime(2099, 12, 31, 23, 59, 59, tzinfo=UTC)
    for moment in (first, last):
        assert read_instant({"at": moment.isoformat()}, "at") == moment
        assert read_epoch({"at": int(moment.timestamp())}, "at") == moment
        assert delivery.find_instant(moment.isoformat()) == moment
        assert delivery.find_instant(int(moment.timestamp())) == moment


@pytest.mark.parametrize("value", [*FAR, SECONDS_9998, 0, 2**62])
def test_delivery_outside_the_valid_years_has_no_time(value: object) -> None:
    assert delivery.find_instant(value) is None
