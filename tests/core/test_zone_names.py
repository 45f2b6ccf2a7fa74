"""Zones of settings and shops: which names are valid, and which zone an abbreviation or a city means."""

from zoneinfo import ZoneInfo

import pytest

from services.core.zone_names import _MEANT, is_zone, suggest_zones


@pytest.mark.parametrize(
    ("typed", "zone"),
    [
        ("PST", "America/Los_Angeles"),
        ("est", "America/New_York"),
        ("CST", "America/Chicago"),
        ("MST", "America/Denver"),
        ("Eastern Time (US & Canada)", "America/New_York"),
        ("UTC+1", "Europe/Paris"),
        ("GMT-05:00", "America/New_York"),
        ("-8", "America/Los_Angeles"),
        ("New York", "America/New_York"),
        ("St. Johns", "America/St_Johns"),
        ("toronto", "America/Toronto"),
        ("America/Vancover", "America/Vancouver"),
    ],
)
def test_a_name_that_people_use_suggests_the_zone_of_a_city(typed: str, zone: str) -> None:
    assert not is_zone(typed)
    assert f"did you mean '{zone}'" in suggest_zones(typed)


@pytest.mark.parametrize("typed", ["", "UTC+20", "Mars", "a" * 500, "America"])
def test_a_name_of_no_zone_suggests_none(typed: str) -> None:
    assert not is_zone(typed)
    assert suggest_zones(typed) == ""


@pytest.mark.parametrize("name", ["UTC", "Etc/GMT+8", "GB", "EST5EDT", "America/Vancouver"])
def test_a_zone_of_the_database_is_valid(name: str) -> None:
    assert is_zone(name)


def test_every_suggested_zone_exists() -> None:
    zones = [zone for of_words in _MEANT.values() for zone in of_words]

    assert len(zones) == len(set(zones))
    assert all(ZoneInfo(zone).key == zone for zone in zones)
