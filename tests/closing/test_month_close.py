"""Job ``monthly-close``: kept, mailed once, resumed after any crash, corrected in the month that finds it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.audit.append import append_audit
from services.audit.chain import Mutation
from services.closing import month_close
from services.closing.corrections import list_closed_months, list_corrections
from services.closing.month_mail import plan_attached
from services.closing.package_store import list_package_faults
from services.core.db import transaction
from services.core.errors import Refused
from services.core.settings import get_settings
from services.providers.object_store import open_store
from tests.closing.months import NOW, add_october, add_order, add_refund, at, close, gst_pst, insert, line
from tests.shopify.sample_payloads import rows

DECEMBER = datetime(2026, 12, 1, 10, 0, tzinfo=UTC)


@pytest.fixture
def archive(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An archive store of the test's own."""
    monkeypatch.setenv("ARCHIVE_URL", f"file://{tmp_path}/archive")
    get_settings.cache_clear()
    yield tmp_path / "archive"
    get_settings.cache_clear()


@pytest.fixture
def october(engine: Engine, archive: Path) -> Engine:
    add_october(engine)
    return engine


def stored(archive: Path) -> dict[str, bytes]:
    """Every object of a package, by key."""
    return {
        path.relative_to(archive).as_posix(): path.read_bytes()
        for path in sorted((archive / "close").rglob("*"))
        if path.is_file()
    }


def outcome(engine: Engine, archive: Path) -> dict[str, Any]:
    """Everything that a closing leaves behind."""
    return {
        "files": stored(archive),
        "row": rows(engine, "select period, begins_on, ends_before, figures, files, manifest_key,"
                            " manifest_sha256 from closed_periods order by 1"),
        "corrections": rows(engine, "select period, found_in, account, currency, before_cents, after_cents"
                                    " from period_corrections order by 1, 2, 3, 4"),
        "mails": rows(engine, "select recipient, subject, text from mail_outbox order by 1"),
        "parts": rows(engine, "select recipient, place, name, md5(content) from mail_parts p"
                              " join mail_outbox m on m.id = p.mail_id order by 1, 2"),
        "work": rows(engine, "select topic, count(*) from work_queue group by 1"),
        "audit": rows(engine, "select action, staff_label, count(*) from audit_events group by 1, 2"
                              " order by 1"),
    }  # fmt: skip


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


def test_a_second_run_changes_nothing_and_mails_nobody(october: Engine, archive: Path) -> None:
    close()
    before = outcome(october, archive)

    again = close(now=NOW + timedelta(hours=3))

    assert again.result == "unchanged"
    assert outcome(october, archive) == before


def _crash_after(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """The process dies right after ``step`` of the closing has been done, once."""
    if step.startswith("put "):
        real_open, wanted = month_close.open_store, int(step.removeprefix("put "))

        def open_dying(url: str) -> Any:
            store = real_open(url)
            real_put, puts = store.put, iter(range(1, 100))

            def put(*args: Any) -> Any:
                done = real_put(*args)
                if next(puts) == wanted:
                    raise SystemError("died")
                return done

            monkeypatch.setattr(store, "put", put)
            return store

        monkeypatch.setattr(month_close, "open_store", open_dying)
        return
    real: Callable[..., Any] = getattr(month_close, step)

    def die(*args: Any, **kwargs: Any) -> Any:
        real(*args, **kwargs)
        raise SystemError("died")

    monkeypatch.setattr(month_close, step, die)


@pytest.mark.parametrize(
    "step",
    [*(f"put {n}" for n in range(1, 7)), "put_package", "_record_closed", "append_all", "_record_mails",
     "record_corrections", "archive_events"],
)  # fmt: skip
def test_a_run_that_died_half_way_ends_as_if_it_had_not(
    engine: Engine, archive: Path, step: str, tmp_path: Path
) -> None:
    add_october(engine)
    with pytest.MonkeyPatch.context() as patch:
        _crash_after(patch, step)
        with pytest.raises(SystemError):
            close()

    finished = close()

    assert finished.result == ("unchanged" if step == "archive_events" else "closed")
    died = outcome(engine, archive)
    with transaction(engine) as tx:
        (closed,) = list_closed_months(tx, 1)
    store = open_store(get_settings().archive_url)
    assert list(list_package_faults(store, closed.manifest_key, closed.manifest_sha256, closed.files)) == []
    assert len(died["files"]) == 6
    assert len(died["mails"]) == 2
    assert died["work"] == [("mail_send", 2)]
    assert ("month_close", "job monthly-close", 1) in died["audit"]


def test_rows_that_change_after_a_crash_make_another_package_and_the_row_names_it(
    october: Engine, archive: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        _crash_after(patch, "put_package")
        with pytest.raises(SystemError):
            close()
    with transaction(october) as tx:
        add_order(tx, 1020, at(28), [line(2001, 5000, gst_pst(250, 350))])

    close()

    with transaction(october) as tx:
        (closed,) = list_closed_months(tx, 1)
    assert closed.figures["accounts"]["CAD"]["gross_sales"] == 32_695 + 5000
    assert len(stored(archive)) == 12
    store = open_store(get_settings().archive_url)
    assert list(list_package_faults(store, closed.manifest_key, closed.manifest_sha256, closed.files)) == []


def test_what_is_learned_late_is_told_once_in_the_next_month(october: Engine, archive: Path) -> None:
    close()
    before = stored(archive)
    with transaction(october) as tx:
        add_order(tx, 1020, at(28), [line(2001, 5000, gst_pst(250, 350))])

    forced = close(now=NOW + timedelta(days=2))
    again = close(now=NOW + timedelta(days=3))

    assert (forced.result, again.result) == ("corrected", "unchanged")
    assert stored(archive) == before
    with transaction(october) as tx:
        told = list_corrections(tx, 1, found_in="2026-11")
        add_order(tx, 1021, at(29), [line(2101, 100, None, is_taxable=False, sku="BAG")])
    assert [(c.account, c.before, c.after) for c in told] == [
        ("cost_of_goods", -3015, -3425), ("gross_sales", 32_695, 37_695), ("tax:CA-BC:GST", 338, 588),
        ("tax:CA-BC:PST", 332, 682),
    ]  # fmt: skip

    november = close("2026-11", DECEMBER)

    assert november.stats["corrections"] == 1
    with transaction(october) as tx:
        first, second = list_closed_months(tx, 1)
        told = list_corrections(tx, 1, found_in="2026-11")
    assert first.figures["accounts"]["CAD"]["gross_sales"] == 32_695
    assert [(c.before, c.after) for c in told if c.account == "gross_sales"] == [(32_695, 37_795)]
    folder = second.manifest_key.rpartition("/")[0]
    statement = stored(archive)[f"{folder}/profit-and-loss.csv"].decode("utf-8-sig")
    assert "Corrections of closed months,October 2026: Gross sales,CAD,51.00,\r\n" in statement
    assert "Corrections of closed months,October 2026: Cost of goods sold,CAD,-4.10,\r\n" in statement
    assert "Sales tax (not revenue),October 2026: PST of CA-BC,CAD,3.50,\r\n" in statement
    assert "Revenue,Gross sales,CAD,99.00,326.95\r\n" in statement
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


def test_lines_taken_off_an_order_that_nobody_paid_are_no_gesture(october: Engine) -> None:
    with transaction(october) as tx:
        add_order(tx, 1041, at(4), [line(4101, 1000, gst_pst(50, 70))], financial_status="pending")
        add_refund(tx, 41, 1041, at(5), 0, [(4101, 1, 1000, 120)])

    close()

    with transaction(october) as tx:
        (closed,) = list_closed_months(tx, 1)
    accounts = closed.figures["accounts"]["CAD"]
    assert (accounts["gross_sales"], accounts["returns"]) == (32_695 + 1000, -12_125 - 1000)
    assert accounts["refund_adjustments"] == -500


def test_of_two_runs_at_once_the_first_closes_and_nobody_is_told_twice(
    october: Engine, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = month_close.put_package

    def put_while_another_run_closes(*args: Any) -> str:
        monkeypatch.setattr(month_close, "put_package", real)
        assert close(now=NOW - timedelta(minutes=5)).result == "closed"
        return real(*args)

    monkeypatch.setattr(month_close, "put_package", put_while_another_run_closes)

    close()

    assert rows(october, "select closed_at from closed_periods") == [(NOW - timedelta(minutes=5),)]
    assert rows(october, "select count(*) from mail_outbox") == [(2,)]
    assert rows(october, "select count(*) from audit_events where action = 'month_close'") == [(1,)]


def test_who_became_accountant_later_gets_the_same_package_when_the_month_is_run_again(
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


def test_a_shop_that_nobody_reads_mail_of_is_closed_without(october: Engine) -> None:
    with transaction(october) as tx:
        tx.execute(text("update shop_config set accountant_email = '', owner_email = ''"))

    assert close().stats["mails"] == 0
    assert rows(october, "select count(*) from mail_outbox") == [(0,)]


def test_what_is_too_large_for_a_mail_is_left_out_and_said_where(
    october: Engine, monkeypatch: pytest.MonkeyPatch
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
    assert "Everything is kept in the archive: close/shop-1/2026-10/" in mail


def test_the_statement_goes_first_into_what_a_mail_can_carry() -> None:
    files = [{"name": "sales-tax.csv", "size": 6_000_000}, {"name": "profit-and-loss.pdf", "size": 5_000_000}]

    assert plan_attached(files, 2000) == ["profit-and-loss.pdf", "manifest.json"]
    assert plan_attached(files[:1], 2000) == ["manifest.json", "sales-tax.csv"]


def test_old_audit_events_leave_the_database_after_the_package_is_safe(
    october: Engine, archive: Path
) -> None:
    with transaction(october) as tx:
        append_audit(
            tx, shop_id=1, staff_label="x", action="old", request_id="", now=NOW - timedelta(days=120),
            mutations=[Mutation("shops", "1", "long ago")],
        )  # fmt: skip

    finished = close(now=NOW)

    assert finished.stats["archived_events"] == 1
    assert rows(october, "select count(*) from audit_events where action = 'old'") == [(0,)]


def test_a_store_with_other_content_under_the_name_refuses_and_closes_nothing(
    october: Engine, archive: Path
) -> None:
    close()
    with transaction(october) as tx:
        ((key,),) = rows(october, "select manifest_key from closed_periods")
        tx.execute(text("delete from closed_periods"))
    altered = archive / key.replace("manifest.json", "sales-tax.csv")
    altered.chmod(0o640)
    altered.write_bytes(b"other")

    with pytest.raises(Refused, match="is there already with other content") as caught:
        close()

    assert caught.value.code == "close.archive_taken"
    assert rows(october, "select count(*) from closed_periods") == [(0,)]


def test_a_store_that_lost_what_goods_cost_is_told_of_and_invents_no_correction(
    october: Engine, archive: Path
) -> None:
    close()
    (costs,) = (archive / "close").rglob("cost-of-goods.csv")
    costs.unlink()
    with transaction(october) as tx:
        tx.execute(text("update inventory_items set cost_cents = 9999"))

    again, november = close(), close("2026-11", DECEMBER)

    assert (again.result, again.stats["damaged_packages"]) == ("unchanged", 1)
    assert (november.stats["corrections"], november.stats["damaged_packages"]) == (0, 1)


def test_no_file_holds_a_customer(october: Engine, archive: Path) -> None:
    with transaction(october) as tx:
        insert(tx, "customers", shop_id=1, customer_id=5, name="Ada Personal", email="ada@personal.example",
               updated_at=at(1))  # fmt: skip
        tx.execute(text("update orders set customer_id = 5"))

    close()

    assert not [key for key, data in stored(archive).items() if b"ersonal" in data]
