"""At its AI cap a shop's AI work is paused, its owner gets one mail, and the work goes on by itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from services.core.db import transaction
from services.costs.cap import BY, apply_ai_caps
from services.ledger.claim import claim_leased, claim_transactional
from services.ledger.filters import FilterInvalid
from services.ledger.pause import PauseScope, clear_pauses, end_pauses, list_pauses, record_pause
from services.ledger.sweep import sweep
from services.ledger.topics import TOPICS
from services.shops.shops import set_shop
from tests.costs.samples import NOW, add_limited_shop, spend
from tests.ledger_rows import plan

MONTH_END = datetime(2026, 12, 1, 8, tzinfo=UTC)
AI_TOPIC = replace(TOPICS["inventory_push"], cost="ai")


def pauses_of(tx: Connection) -> list[tuple[Any, ...]]:
    return [(str(one.scope), one.mode, one.created_by, one.ends_at) for one in list_pauses(tx)]


def mails_of(tx: Connection) -> list[tuple[Any, ...]]:
    rows = tx.execute(text("select kind, period, recipient from mail_outbox order by id"))
    return [tuple(row) for row in rows]


def test_at_the_cap_the_work_is_paused_until_the_month_ends_with_one_mail(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    add_limited_shop(tx, "other")
    spend(tx, shop, "49.99")
    assert apply_ai_caps(tx, NOW) == []
    assert pauses_of(tx) == []

    spend(tx, shop, "50.12", reference="work 1")
    (work,) = apply_ai_caps(tx, NOW)
    assert work.topic == "mail_send"
    assert apply_ai_caps(tx, NOW + timedelta(minutes=1)) == []
    assert pauses_of(tx) == [(f"cost ai, shop {shop.id}", "hold", BY, MONTH_END)]
    assert mails_of(tx) == [("ai_cap", "2026-11", "owner@harbour.example")]
    body = tx.scalar(text("select text from mail_outbox"))
    assert "50.12 CAD" in str(body)
    assert "50.00 CAD" in str(body)


def test_it_ends_on_the_first_and_the_next_month_has_a_mail_of_its_own(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    spend(tx, shop, "50")
    apply_ai_caps(tx, NOW)

    end_pauses(tx, MONTH_END)
    assert apply_ai_caps(tx, MONTH_END) == []
    assert pauses_of(tx) == []

    spend(tx, shop, "51", now=MONTH_END)
    assert len(apply_ai_caps(tx, MONTH_END)) == 1
    assert [period for _, period, _ in mails_of(tx)] == ["2026-11", "2026-12"]


def test_a_raised_cap_ends_the_pause_and_a_second_pause_sends_no_second_mail(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    spend(tx, shop, "50")
    apply_ai_caps(tx, NOW)

    set_shop(tx, "harbour", {"ai_cap": "60.00 CAD"}, now=NOW)
    apply_ai_caps(tx, NOW)
    assert pauses_of(tx) == []

    spend(tx, shop, "61")
    assert apply_ai_caps(tx, NOW) == []
    assert len(pauses_of(tx)) == 1
    assert len(mails_of(tx)) == 1


@pytest.mark.parametrize(
    ("change", "later"),
    [({"ai_cap": ""}, NOW), ({"ai_cap": "60.00 CAD"}, NOW), ({}, MONTH_END)],
    ids=["no cap", "a raised cap", "the next month"],
)
@pytest.mark.parametrize("ends_at", [None, MONTH_END + timedelta(days=9)], ids=["no end", "an end"])
def test_a_pause_of_a_person_stays_as_it_is_and_the_owner_has_one_mail(
    tx: Connection, ends_at: datetime | None, change: dict[str, str], later: datetime
) -> None:
    shop = add_limited_shop(tx)
    scope = PauseScope(cost="ai", shop_id=shop.id)
    record_pause(tx, scope, "hold", ends_at=ends_at, now=NOW, by="ada", reason="wrong answers")
    spend(tx, shop, "50")
    assert [one.topic for one in apply_ai_caps(tx, NOW)] == ["mail_send"]
    assert apply_ai_caps(tx, NOW + timedelta(minutes=1)) == []
    texts = tx.execute(text("select text, html from mail_outbox")).one()
    assert all("when your operator resumes it" in one for one in texts)
    assert not any("ntil Dec" in one or "by itself when" in one for one in texts)

    if change:
        set_shop(tx, "harbour", change, now=NOW)
    end_pauses(tx, later)
    assert apply_ai_caps(tx, later) == []
    assert pauses_of(tx) == [(f"cost ai, shop {shop.id}", "hold", "ada", ends_at)]
    assert mails_of(tx) == [("ai_cap", "2026-11", "owner@harbour.example")]


def test_a_cap_that_is_reached_under_the_pause_of_a_person_pauses_when_that_ends(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    scope = PauseScope(cost="ai", shop_id=shop.id)
    record_pause(tx, scope, "hold", now=NOW, by="ada", reason="wrong answers")
    spend(tx, shop, "50")
    apply_ai_caps(tx, NOW)
    clear_pauses(tx, [scope], None, now=NOW, by="ada")

    assert apply_ai_caps(tx, NOW) == [], "the owner has the mail"
    assert pauses_of(tx) == [(f"cost ai, shop {shop.id}", "hold", BY, MONTH_END)]
    assert len(mails_of(tx)) == 1


def test_a_resume_by_a_person_at_the_cap_lasts_until_the_next_check(tx: Connection) -> None:
    shop = add_limited_shop(tx)
    spend(tx, shop, "50")
    apply_ai_caps(tx, NOW)
    clear_pauses(tx, [PauseScope(cost="ai", shop_id=shop.id)], 5.0, now=NOW, by="ada")
    apply_ai_caps(tx, NOW)

    assert pauses_of(tx) == [(f"cost ai, shop {shop.id}", "hold", BY, MONTH_END)]


def test_another_zone_moves_the_end_and_a_shop_without_owner_is_paused_too(tx: Connection) -> None:
    shop = add_limited_shop(tx, owner_email="")
    spend(tx, shop, "50")
    assert apply_ai_caps(tx, NOW) == []
    set_shop(tx, "harbour", {"timezone": "UTC"}, now=NOW)
    apply_ai_caps(tx, NOW)

    assert [row[3] for row in pauses_of(tx)] == [datetime(2026, 12, 1, tzinfo=UTC)]
    assert "nobody was mailed, as the shop has no owner_email" in list_pauses(tx)[0].reason


def test_the_pause_holds_topics_that_cause_the_cost_at_this_shop_only(engine: Engine) -> None:
    first = plan(engine, "inventory_push", 1, shop_id=1)
    second = plan(engine, "inventory_push", 1, shop_id=2)
    with transaction(engine) as tx:
        record_pause(tx, PauseScope(cost="ai", shop_id=1), "hold", now=NOW, by=BY)

    def claimed(topic: Any, claim: Any, *token: str) -> list[int]:
        with engine.connect() as tx, tx.begin() as outer:
            found = [item.id for item in claim(tx, topic, NOW + timedelta(hours=1), *token).items]
            outer.rollback()
        return sorted(found)

    assert claimed(AI_TOPIC, claim_leased, "a worker") == second
    assert claimed(AI_TOPIC, claim_transactional) == second
    assert claimed(TOPICS["inventory_push"], claim_transactional) == [*first, *second]


def test_a_drain_of_a_cost_ends_when_the_work_of_its_topics_is_done(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = PauseScope(cost="ai", shop_id=1)
    plan(engine, "mail_send", 1)
    (waiting,) = plan(engine, "inventory_push", 1)
    monkeypatch.setitem(TOPICS, "inventory_push", AI_TOPIC)  # type: ignore[arg-type]

    def sweep_later() -> list[str]:
        with transaction(engine) as tx:
            sweep(tx, NOW + timedelta(hours=2), None)
            return [pause.mode for pause in list_pauses(tx)]

    with transaction(engine) as tx:
        record_pause(tx, scope, "hold", now=NOW, by="ada")
        clear_pauses(tx, [scope], 5.0, now=NOW + timedelta(hours=1), by="ada")
    assert sweep_later() == ["drain"]
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set status = 'done' where id = :id"), {"id": waiting})
    assert sweep_later() == []


def test_a_cost_refuses_no_webhook(tx: Connection) -> None:
    with pytest.raises(FilterInvalid, match="mode='refuse' should be hold"):
        record_pause(tx, PauseScope(cost="ai"), "refuse", now=NOW, by="ada")
    with pytest.raises(FilterInvalid, match="cost='gas'"):
        PauseScope(cost="gas")
