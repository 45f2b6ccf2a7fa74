"""Every table has a rule of retention or a reason to be kept, and both are documented."""

import re
from pathlib import Path

import pytest

from services.core.errors import SettingsInvalid
from services.core.settings import Settings, read_settings
from services.retention.rules import EVENTS, KEPT, RULES
from services.schema.models import metadata

ROOT = Path(__file__).parents[2]
TABLES = {table.name for table in metadata.sorted_tables}
NEEDED = {"DATABASE_URL": "postgresql://a:b@c/d", "BROKER_URL": "redis://:a@b/0", "SECRET_KEY": "k" * 32}


def test_every_table_has_a_rule_or_a_reason_to_be_kept() -> None:
    ruled = {rule.table for rule in (EVENTS, *RULES)}

    assert TABLES - ruled - set(KEPT) == set(), "add a rule (services/retention/rules.py) or a reason"
    assert ruled & set(KEPT) == set()
    assert (ruled | set(KEPT)) - TABLES == set()


def test_the_documented_table_of_retention_names_every_table_and_setting() -> None:
    page = (ROOT / "docs" / "retention.md").read_text()

    assert {name for name in TABLES if f"`{name}`" not in page} == set()
    assert {rule.setting for rule in (EVENTS, *RULES)} <= set(re.findall(r"`([A-Z_]+)`", page))


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("RETENTION_EVENT_DAYS", 40), ("RETENTION_MAIL_DAYS", 40), ("RETENTION_RUN_DAYS", 400),
        ("RETENTION_STATS_DAYS", 36),
        ("RETENTION_STATEMENT_DAYS", 2),
    ],
)  # fmt: skip
def test_an_age_is_never_shorter_than_what_reads_the_rows(name: str, least: int) -> None:
    def read(value: str) -> int:
        settings: Settings = read_settings(NEEDED | {name: value})
        return int(getattr(settings, name.lower()))

    assert (read(str(least)), read("0"), read("36500")) == (least, 0, 36500)
    for wrong in (str(least - 1), "-1", "1.5", "36501", "soon"):
        with pytest.raises(
            SettingsInvalid, match=f"{name}='{wrong}' should be a whole number from {least} to"
        ):
            read(wrong)
