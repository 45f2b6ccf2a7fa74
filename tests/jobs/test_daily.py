"""Planning the night: every shop once a day, when its own day is over."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, text

from services.core.db import transaction
from services.jobs.daily import plan_due_reconciliations

# 09:00 UTC: over in Vancouver (01:00) and in Tokyo (18:00), not yet in Honolulu (23:00 the day before).
NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
RUNS = "select shop_id, job, period, status, origin, ended_at from job_runs order by shop_id"


def add_shops(engine: Engine, **zones: str) -> None:
    with transaction(engine) as tx:
        for slug, zone in zones.items():
            tx.execute(
                text(
                    "insert into shops (slug, name, timezone, currency, created_at) "
                    "values (:slug, :slug, :zone, 'CAD', :at)"
                ),
                {"slug": slug, "zone": zone, "at": datetime(2026, 11, 1, tzinfo=UTC)},
            )


def plan(engine: Engine, now: datetime = NOW) -> list[tuple[int, str, str, dict[str, Any], str]]:
    with transaction(engine) as tx:
        return [(n.shop_id, n.topic, n.key, n.payload, n.origin) for n in plan_due_reconciliations(tx, now)]


def runs(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as tx:
        return [tuple(row) for row in tx.execute(text(RUNS))]


def test_each_shop_gets_the_day_that_is_over_where_it_is(engine: Engine) -> None:
    add_shops(engine, west="America/Vancouver", east="Asia/Tokyo", far="Pacific/Honolulu")

    assert plan(engine) == [
        (1, "reconcile", "2026-11-20", {"day": "2026-11-20"}, "beat"),
        (2, "reconcile", "2026-11-20", {"day": "2026-11-20"}, "beat"),
        (3, "reconcile", "2026-11-19", {"day": "2026-11-19"}, "beat"),
    ]
    assert runs(engine)[0] == (1, "daily-reconciliation", "2026-11-20", "running", "beat", None)


def test_second_beat_plans_nothing(engine: Engine) -> None:
    add_shops(engine, west="America/Vancouver")

    assert len(plan(engine)) == 1
    assert plan(engine) == []
    assert len(runs(engine)) == 1


def test_beat_that_was_away_plans_only_yesterday(engine: Engine) -> None:
    add_shops(engine, west="America/Vancouver")
    plan(engine)

    later = plan(engine, datetime(2026, 11, 25, 9, 0, tzinfo=UTC))

    assert [entry[2] for entry in later] == ["2026-11-24"]


def test_shop_has_no_night_before_the_day_it_was_added(engine: Engine) -> None:
    add_shops(engine, west="America/Vancouver")
    with transaction(engine) as tx:
        # 00:30 in Vancouver on the 21st.
        tx.exec_driver_sql("update shops set created_at = '2026-11-21 08:30+00'")

    assert plan(engine) == []
    assert [entry[2] for entry in plan(engine, datetime(2026, 11, 22, 9, 0, tzinfo=UTC))] == ["2026-11-21"]


def test_zone_that_is_unknown_keeps_no_other_shop_from_its_night(engine: Engine) -> None:
    add_shops(engine, odd="Atlantis/Deep", west="America/Vancouver")

    assert [entry[0] for entry in plan(engine)] == [2]
