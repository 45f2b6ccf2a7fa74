"""A month close that is repeated, interrupted or run twice at once."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.audit.append import AuditEntry, Mutation, append_all
from services.closing import month_close
from services.closing.corrections import list_closed_months
from services.closing.month_package import list_package_faults
from services.core.db import transaction
from services.core.errors import Refused
from services.core.settings import get_settings
from services.providers.object_store import open_store
from tests.closing.closed_month import outcome, own_archive, stored
from tests.closing.months import NOW, add_october, add_order, at, close, gst_pst, line
from tests.shopify.sample_payloads import rows


@pytest.fixture
def archive(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    with own_archive(monkeypatch, tmp_path) as folder:
        yield folder


@pytest.fixture
def october(engine: Engine, archive: Path) -> Engine:
    add_october(engine)
    return engine


def test_a_second_run_changes_nothing_and_mails_nobody(october: Engine, archive: Path) -> None:
    close()
    before = outcome(october, archive)

    again = close(now=NOW + timedelta(hours=3))

    assert again.result == "unchanged"
    assert outcome(october, archive) == before


def _crash_after(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Make the process die once, right after ``step`` of the month close."""
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
    [*(f"put {n}" for n in range(1, 7)), "put_package", "_record_closed", "append_all",
     "record_package_mails", "record_corrections", "archive_events"],
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


def test_two_concurrent_runs_close_and_mail_once(
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


def test_old_audit_events_leave_the_database_after_the_package_is_safe(
    october: Engine, archive: Path
) -> None:
    with transaction(october) as tx:
        entry = AuditEntry(1, "x", "old", "", [Mutation("shops", "1", "long ago")])
        append_all(tx, [entry], NOW - timedelta(days=120))

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

    with pytest.raises(Refused, match="exists with other content") as caught:
        close()

    assert caught.value.code == "close.archive_taken"
    assert rows(october, "select count(*) from closed_periods") == [(0,)]
