"""Two people decide about a letter at once, and its shop moves to another zone."""

from datetime import timedelta
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import Engine

from services.closing.letters import approve_letter, hold_letter
from services.core.db import transaction
from services.shops.shops import set_shop
from tests.closing.test_owner_letter import DRAFTED, LATER, LETTERS, MAILS, TUESDAY, draft, work
from tests.closing.test_owner_letter import shop as shop  # noqa: PLC0414 - the fixture
from tests.shopify.sample_payloads import rows


def test_another_zone_after_the_draft_moves_no_letter_and_makes_no_second_one(
    shop: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft(shop, monkeypatch)
    with transaction(shop) as tx:
        set_shop(tx, "harbour", {"timezone": "Asia/Tokyo"}, now=DRAFTED)
    draft(shop, monkeypatch, now=DRAFTED + timedelta(hours=7))

    assert work(shop, monkeypatch, TUESDAY - timedelta(minutes=1)) == [None]
    assert work(shop, monkeypatch, TUESDAY) == ["mailed"]
    assert rows(shop, MAILS) == [("owner@example.com", "2026-W47")]


@pytest.mark.parametrize(("second", "status"), [(approve_letter, "approved"), (hold_letter, "held")])
def test_of_two_people_at_once_the_second_decides_about_what_the_first_left(
    shop: Engine, monkeypatch: pytest.MonkeyPatch, second: Any, status: str
) -> None:
    draft(shop, monkeypatch)

    def decide() -> None:
        with transaction(shop) as tx:
            second(tx, 1, by="bo", now=LATER)

    other = Thread(target=decide)
    with transaction(shop) as tx:
        hold_letter(tx, 1, by="ada", now=LATER)
        other.start()
        waits = (
            "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        while not rows(shop, waits):
            assert other.is_alive()
    other.join()

    assert rows(shop, LETTERS)[0][1] == status
    states = "select before ->> 'status', after ->> 'status' from audit_mutations"
    assert rows(shop, f"{states} where table_name = 'owner_letters' order by event_id") == [
        ("draft", "held"),
        ("held", status),
    ]
