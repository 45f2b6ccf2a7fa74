"""An archive store, and the rows and objects of a month close."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.core.settings import get_settings
from tests.shopify.sample_payloads import rows

DECEMBER = datetime(2026, 12, 1, 10, 0, tzinfo=UTC)


def stored(archive: Path) -> dict[str, bytes]:
    """Return every object of a package by key."""
    return {
        path.relative_to(archive).as_posix(): path.read_bytes()
        for path in sorted((archive / "close").rglob("*"))
        if path.is_file()
    }


def outcome(engine: Engine, archive: Path) -> dict[str, Any]:
    """Return all rows and objects of a month close."""
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


@contextmanager
def own_archive(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Use an archive store of the test."""
    monkeypatch.setenv("ARCHIVE_URL", f"file://{tmp_path}/archive")
    get_settings.cache_clear()
    yield tmp_path / "archive"
    get_settings.cache_clear()
