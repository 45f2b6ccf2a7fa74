"""Log lines, read back from the file descriptor."""

import io
import json
import logging
import logging.config
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.core import log
from services.core.log import (
    LONGEST_TRACE_LINE,
    configure_logging,
    granian_log_config,
    log_batch_settled,
    log_request,
)
from services.core.settings import Settings

SETTINGS = Settings(database_url="", migrate_database_url="", broker_url="", secret_key="")
REQUEST: dict[str, Any] = {
    "request_id": "req-1",
    "shop": "ada-teas",
    "provider": "shopify",
    "topic": "orders/create",
    "status": 200,
    "outcome": "accepted",
    "duration_ms": 3.14159,
    "size_bytes": 4821,
    "event_id": 2**53 + 1,
}

Read = Callable[[], list[str]]


@pytest.fixture
def log_file() -> Iterator[tuple[int, Read]]:
    """A file in place of stdout; restores the logging afterwards."""
    handlers, level = logging.root.handlers[:], logging.root.level
    with tempfile.TemporaryFile() as file:

        def read() -> list[str]:
            file.seek(0)
            return io.TextIOWrapper(io.BytesIO(file.read()), encoding="utf-8").read().splitlines()

        yield file.fileno(), read
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(capture=False)
    log._write_event = None


def test_request_is_one_log_line_with_all_fields(log_file: tuple[int, Read]) -> None:
    fd, read = log_file
    configure_logging(SETTINGS, "ingress", fd=fd)

    log_request(**REQUEST)
    (line,) = read()

    entry = json.loads(line)
    assert datetime.now(UTC) - datetime.fromisoformat(entry.pop("time")) < timedelta(minutes=1)
    assert entry == {
        "level": "info",
        "event": "request",
        "process": "ingress",
        "pid": os.getpid(),
        "request_id": "req-1",
        "shop": "ada-teas",
        "provider": "shopify",
        "topic": "orders/create",
        "status": 200,
        "outcome": "accepted",
        "duration_ms": 3.14,
        "bytes": 4821,
        "event_id": 2**53 + 1,
    }


def test_a_settled_set_is_one_line_with_at_most_ten_request_ids(log_file: tuple[int, Read]) -> None:
    fd, read = log_file
    configure_logging(SETTINGS, "worker-webhooks", fd=fd)

    log_batch_settled(
        topic="order_ingest",
        count=500,
        done=497,
        retried=2,
        dead=1,
        duration_ms=41.0,
        request_ids=[f"req-{n}" for n in range(500)],
        worker="w1",
    )
    entry = json.loads(read()[0])

    assert (entry["event"], entry["topic"], entry["count"]) == ("batch_settled", "order_ingest", 500)
    assert (entry["done"], entry["retried"], entry["dead"]) == (497, 2, 1)
    assert entry["request_ids"] == [f"req-{n}" for n in range(10)]


def test_other_libraries_lines_have_the_same_form_and_hide_the_same_things(
    log_file: tuple[int, Read],
) -> None:
    fd, read = log_file
    configure_logging(SETTINGS, "worker-webhooks", fd=fd)

    logging.getLogger("celery.worker").warning("lost %s", "redis://:pw@broker:6379/0")
    try:
        raise ValueError("no whsec_c2VjcmV0LW9m here")
    except ValueError:
        logging.getLogger("sqlalchemy").exception("failed")
    warning, error = (json.loads(line) for line in read())

    assert warning["event"] == "lost redis://[hidden]@broker:6379/0"
    assert (warning["level"], warning["logger"]) == ("warning", "celery.worker")
    assert error["exception"].endswith("ValueError: no [hidden] here")


def test_a_value_that_an_error_quotes_is_short_and_without_addresses(log_file: tuple[int, Read]) -> None:
    fd, read = log_file
    configure_logging(SETTINGS, "worker", fd=fd)
    try:
        raise ValueError("ada@example.com " + "x" * 10_000)
    except ValueError:
        logging.getLogger("ours").exception("failed")

    (line,) = map(json.loads, read())
    assert line["exception"].splitlines()[-1].startswith("ValueError: [email] xxx")
    assert len(line["exception"].splitlines()[-1]) < LONGEST_TRACE_LINE + 10


def test_our_lines_contain_their_fields_and_hide_secret_ones(log_file: tuple[int, Read]) -> None:
    fd, read = log_file
    configure_logging(SETTINGS, "ingress", fd=fd)

    fields = {"api_token": "abc", "scopes": ["read"], "request_id": "req-9"}
    logging.getLogger("services").info("connected", extra={"fields": fields})
    entry = json.loads(read()[0])

    assert (entry["api_token"], entry["scopes"], entry["request_id"]) == ("[hidden]", ["read"], "req-9")


def test_the_level_holds_for_every_kind_of_line(log_file: tuple[int, Read]) -> None:
    fd, read = log_file
    configure_logging(replace(SETTINGS, log_level="warning"), "ingress", fd=fd)

    log_request(**REQUEST)
    logging.getLogger("services").info("quiet")
    logging.getLogger("kombu").info("quiet")
    logging.getLogger("services").warning("loud")

    assert [json.loads(line)["event"] for line in read()] == ["loud"]


def test_libraries_that_log_every_message_are_quiet_by_default(log_file: tuple[int, Read]) -> None:
    fd, read = log_file

    configure_logging(SETTINGS, "worker", fd=fd)
    logging.getLogger("celery.app.trace").info("Task order_ingest succeeded")
    configure_logging(replace(SETTINGS, log_level="debug"), "worker", fd=fd)
    logging.getLogger("celery.app.trace").info("Task refund_ingest succeeded")

    assert [json.loads(line)["event"] for line in read()] == ["Task refund_ingest succeeded"]


def test_foreign_text_neither_breaks_the_line_nor_fills_the_log(log_file: tuple[int, Read]) -> None:
    fd, read = log_file
    configure_logging(SETTINGS, "ingress", fd=fd)

    log_request(**REQUEST | {"shop": "a\n\udcff" + "x" * 5000, "topic": '"}\x1b[2J', "event_id": 2**70})
    (line,) = read()

    entry = json.loads(line)
    assert len(entry["shop"]) == log.LONGEST_FIELD
    assert entry["topic"] == '"}\x1b[2J'


def test_foreign_text_sends_no_terminal_codes(log_file: tuple[int, Read]) -> None:
    fd, read = log_file
    configure_logging(replace(SETTINGS, log_format="console"), "ingress", fd=fd)

    log_request(**REQUEST | {"shop": "\x1b[2J"})
    (line,) = read()

    assert "\x1b" not in line  # no colour: a file is not a terminal
    assert "topic=orders/create" in line


def test_closed_log_reader_raises_no_error(log_file: tuple[int, Read]) -> None:
    reading, writing = os.pipe()
    configure_logging(SETTINGS, "ingress", fd=writing)
    os.close(reading)

    log_request(**REQUEST)
    logging.getLogger("kombu").warning("gone")

    os.close(writing)


def test_granian_writes_the_same_lines(log_file: tuple[int, Read]) -> None:
    fd, read = log_file
    config = granian_log_config(SETTINGS, "ingress")
    config["handlers"]["lines"]["fd"] = fd

    logging.config.dictConfig(config)
    logging.getLogger("_granian").info("Started worker-1")
    logging.getLogger("_granian").handlers.clear()

    assert json.loads(read()[0])["event"] == "Started worker-1"


def test_nothing_is_written_before_logging_is_set_up(capfd: pytest.CaptureFixture[str]) -> None:
    log_request(**REQUEST)

    assert capfd.readouterr().out == ""
