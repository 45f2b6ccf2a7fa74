"""A month is closed, stored and mailed; later differences are corrections."""

import csv
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from services.closing.corrections import list_closed_months, list_corrections
from services.closing.month_mail import list_attached_files
from services.closing.month_package import list_package_faults
from services.core.db import transaction
from services.core.settings import get_settings
from services.providers.object_store import open_store
from tests.closing.closed_month import DECEMBER, own_archive, stored
from tests.closing.months import NOW, add_october, add_order, add_refund, at, close, gst_pst, insert, line
from tests.shopify.sample_payloads import rows


@pytest.fixture
def archive(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    with own_archive(monkeypatch, tmp_path) as folder:
        yield folder


@pytest.fixture
def october(engine: Engine, archive: Path) -> Engine:
    add_october(engine)
    return engine


def test_a_month_is_closed_kept_and_mailed_to_owner_and_accountant(october: Engine, archive: Path) -> None:
    finished = close()

    assert finished.result == "closed"
    assert finished.stats == {
        "corrections": 0, "mails": 2, "archived_events": 0, "orders": 11, "lines": 13, "files": 6,
        "bytes": finished.stats["bytes"], "damaged_packages": 0,
    }  # fmt: skip
    with transaction(october) as tx:
        (closed,) = list_closed_months(tx, 1)
    assert closed.figures["accounts"]["CAD"]["gross_sales"] == 32_695
    assert (closed.period, closed.closed_at) == ("2026-10", NOW)
    store = open_store(get_settings().archive_url)
    assert list(list_package_faults(store, closed.manifest_key, closed.manifest_sha256, closed.files)) == []
    assert len(stored(archive)) == 6
    mails = rows(october, "select recipient, kind, period from mail_outbox order by 1")
    assert mails == [
        ("books@example.com", "month_package", "2026-10"), ("owner@example.com", "month_package", "2026-10"),
    ]  # fmt: skip
    names = rows(october, "select name from mail_parts p join mail_outbox m on m.id = p.mail_id"
                          " where recipient = 'books@example.com' order by 1")  # fmt: skip
    assert [name for (name,) in names] == [
        f"harbour-2026-10-{name}"
        for name in ("cost-of-goods.csv", "manifest.json", "profit-and-loss.csv", "profit-and-loss.pdf",
                     "sales-tax-summary.csv", "sales-tax.csv")
    ]  # fmt: skip
    ((summary,),) = rows(october, "select summary from audit_mutations where table_name = 'closed_periods'")
    assert summary.startswith("closed 2026-10: net sales 202.20 CAD, 5 files, manifest ")


def test_late_changes_are_reported_once_in_the_next_month(october: Engine, archive: Path) -> None:
    close()
    before = stored(archive)
    with transaction(october) as tx:
        add_order(tx, 1020, at(28), [line(2001, 5000, gst_pst(250, 350))])

    forced = close(now=NOW + timedelta(days=2))
    again = close(now=NOW + timedelta(days=3))

    assert (forced.result, again.result) == ("corrected", "unchanged")
    assert stored(archive) == before
    with transaction(october) as tx:
        listed = list_corrections(tx, 1, found_in="2026-11")
        add_order(tx, 1021, at(29), [line(2101, 100, None, is_taxable=False, sku="BAG")])
    assert [(c.account, c.before, c.after) for c in listed] == [
        ("cost_of_goods", -3015, -3425), ("gross_sales", 32_695, 37_695), ("tax:CA-BC:GST", 338, 588),
        ("tax:CA-BC:PST", 332, 682),
    ]  # fmt: skip

    november = close("2026-11", DECEMBER)

    assert november.stats["corrections"] == 1
    with transaction(october) as tx:
        first, second = list_closed_months(tx, 1)
        listed = list_corrections(tx, 1, found_in="2026-11")
    assert first.figures["accounts"]["CAD"]["gross_sales"] == 32_695
    assert [(c.before, c.after) for c in listed if c.account == "gross_sales"] == [(32_695, 37_795)]
    folder = second.manifest_key.rpartition("/")[0]
    statement = stored(archive)[f"{folder}/profit-and-loss.csv"].decode("utf-8-sig")
    assert "Corrections of closed months,October 2026: Gross sales,CAD,51.00,\r\n" in statement
    assert "Corrections of closed months,October 2026: Cost of goods sold,CAD,-4.10,\r\n" in statement
    assert "Sales tax (not revenue),October 2026: PST of CA-BC,CAD,3.50,\r\n" in statement
    assert "Revenue,Gross sales,CAD,99.00,326.95\r\n" in statement
    summary = stored(archive)[f"{folder}/sales-tax-summary.csv"].decode("utf-8-sig")
    corrected = [row for row in csv.DictReader(summary.splitlines()) if row["corrects"]]
    assert [(row["tax"], row["net_to_remit"], row["charged"], row["corrects"]) for row in corrected] == [
        ("GST", "2.50", "", "2026-10"), ("PST", "3.50", "", "2026-10"),
    ]  # fmt: skip
    ((mail,),) = rows(
        october, "select text from mail_outbox where period = '2026-11' and recipient = 'owner@example.com'"
    )
    assert "October 2026: Gross sales: +51.00 CAD" in mail
    assert close("2026-11", DECEMBER).result == "unchanged"
    assert close().result == "unchanged"


def test_a_cost_and_a_tax_profile_that_change_later_correct_nothing(october: Engine) -> None:
    with transaction(october) as tx:
        add_order(tx, 1040, at(4), [line(4001, 1000, gst_pst(50, 70))], province="")
    close()
    with transaction(october) as tx:
        tx.execute(text("update inventory_items set cost_cents = 999"))
        insert(tx, "storefronts", shop_id=1, province="CA-ON", updated_at=at(1))
        tx.execute(text("update shop_config set settings = '{}'"))

    assert close().result == "unchanged"


def test_lines_removed_from_an_unpaid_order_are_no_goodwill_refund(october: Engine) -> None:
    with transaction(october) as tx:
        add_order(tx, 1041, at(4), [line(4101, 1000, gst_pst(50, 70))], financial_status="pending")
        add_refund(tx, 41, 1041, at(5), 0, [(4101, 1, 1000, 120)])

    close()

    with transaction(october) as tx:
        (closed,) = list_closed_months(tx, 1)
    accounts = closed.figures["accounts"]["CAD"]
    assert (accounts["gross_sales"], accounts["returns"]) == (32_695 + 1000, -12_125 - 1000)
    assert accounts["refund_adjustments"] == -500


def test_new_accountant_gets_the_same_package_when_the_month_is_run_again(
    october: Engine, archive: Path
) -> None:
    close()
    with transaction(october) as tx:
        tx.execute(text("update shop_config set accountant_email = 'New@example.com'"))

    close(now=NOW + timedelta(days=9))

    mails = rows(october, "select recipient, text from mail_outbox order by id")
    assert [recipient for recipient, _ in mails] == [
        "books@example.com",
        "owner@example.com",
        "New@example.com",
    ]
    assert mails[0][1] == mails[2][1]
    parts = rows(october, "select array_agg(md5(content) order by place) from mail_parts group by mail_id")
    assert len({tuple(part) for (part,) in parts}) == 1


def test_month_of_a_shop_without_recipients_is_closed(october: Engine) -> None:
    with transaction(october) as tx:
        tx.execute(text("update shop_config set accountant_email = '', owner_email = ''"))

    assert close().stats["mails"] == 0
    assert rows(october, "select count(*) from mail_outbox") == [(0,)]


def test_files_too_large_for_a_mail_are_left_out_and_their_location_is_given(
    october: Engine, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.closing.month_mail.LARGEST_ATTACHED", 1000)

    close()

    names = {
        name.removeprefix("harbour-2026-10-")
        for (name,) in rows(october, "select distinct name from mail_parts")
    }
    ((mail,), *_) = rows(october, "select text from mail_outbox")
    assert names == {"cost-of-goods.csv", "sales-tax-summary.csv"}
    assert "- cost-of-goods.csv (attached)" in mail
    assert "- profit-and-loss.pdf (too large for a mail)" in mail
    assert "All files are stored in the archive: close/shop-1/2026-10/" in mail
    assert str(archive) not in mail


def test_statement_is_attached_first_within_the_limit_of_a_mail() -> None:
    files = [{"name": "sales-tax.csv", "size": 6_000_000}, {"name": "profit-and-loss.pdf", "size": 5_000_000}]

    assert list_attached_files(files, 2000) == ["profit-and-loss.pdf", "manifest.json"]
    assert list_attached_files(files[:1], 2000) == ["manifest.json", "sales-tax.csv"]


def test_costs_lost_in_the_store_are_reported_and_make_no_correction(october: Engine, archive: Path) -> None:
    close()
    (costs,) = (archive / "close").rglob("cost-of-goods.csv")
    costs.unlink()
    with transaction(october) as tx:
        tx.execute(text("update inventory_items set cost_cents = 9999"))

    again, november = close(), close("2026-11", DECEMBER)

    assert (again.result, again.stats["damaged_packages"]) == ("unchanged", 1)
    assert (november.stats["corrections"], november.stats["damaged_packages"]) == (0, 1)


def test_no_file_contains_customer_data(october: Engine, archive: Path) -> None:
    with transaction(october) as tx:
        insert(tx, "customers", shop_id=1, customer_id=5, name="Ada Personal", email="ada@personal.example",
               updated_at=at(1))  # fmt: skip
        tx.execute(text("update orders set customer_id = 5"))

    close()

    assert not [key for key, data in stored(archive).items() if b"ersonal" in data]
