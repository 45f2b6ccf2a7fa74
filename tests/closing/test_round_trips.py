"""Each column of the month close tables is written and read back by its name."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from services.closing.corrections import (
    ClosedMonth,
    Correction,
    list_closed_months,
    list_corrections,
    record_corrections,
)
from services.closing.month_close import _record_closed
from services.closing.month_package import ClosePackage
from services.core.db import transaction
from tests.shopify.sample_payloads import add_shop

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


def test_closed_month_is_read_back_by_name_and_by_its_finder(engine: Engine) -> None:
    shop_id = add_shop(engine)
    files = [
        {"name": "a.csv", "sha256": "sha of a", "size": 11},
        {"name": "b.pdf", "sha256": "sha of b", "size": 12},
    ]
    package = ClosePackage(Path(), files, b"manifest", {"accounts": {"CAD": {"tips": 5}}})

    with transaction(engine) as tx:
        assert _record_closed(tx, shop_id, "2026-10", package, "key of the manifest", NOW)
        assert not _record_closed(tx, shop_id, "2026-10", package, "another key", NOW + timedelta(days=1))
        row = dict(tx.exec_driver_sql("select * from closed_periods").mappings().one())
        (found,) = list_closed_months(tx, shop_id)

    assert row == {
        "shop_id": shop_id,
        "period": "2026-10",
        "begins_on": date(2026, 10, 1),
        "ends_before": date(2026, 11, 1),
        "closed_at": NOW,
        "figures": {"accounts": {"CAD": {"tips": 5}}},
        "files": files,
        "manifest_key": "key of the manifest",
        "manifest_sha256": package.sha256,
    }
    assert found == ClosedMonth(**{name: row[name] for name in ClosedMonth._fields})


def test_corrections_are_read_back_by_name_and_by_their_finder(engine: Engine) -> None:
    shop_id = add_shop(engine)
    made = [
        Correction("2026-08", 'ret"urns\\', "CAD", -1001, 1002),
        Correction("2026-09", "shipping", "JPY", 1003, -1004),
    ]

    with transaction(engine) as tx:
        record_corrections(tx, shop_id, "2026-10", made, NOW)
        rows = [
            dict(row)
            for row in tx.exec_driver_sql("select * from period_corrections order by period").mappings()
        ]
        found_in = list_corrections(tx, shop_id, found_in="2026-10")
        found_of = list_corrections(tx, shop_id, period="2026-09")

    assert [{name: value for name, value in row.items() if name != "id"} for row in rows] == [
        {
            "shop_id": shop_id,
            "period": one.period,
            "found_in": "2026-10",
            "account": one.account,
            "currency": one.currency,
            "before_cents": one.before,
            "after_cents": one.after,
            "at": NOW,
        }
        for one in made
    ]
    assert found_in == made
    assert found_of == made[1:]
