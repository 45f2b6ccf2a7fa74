"""Each rule changes exactly the rows of its age, in pages, beside other transactions."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from services.core.settings import get_settings
from services.ingress.metrics import read_totals
from services.ingress.request_stats import RequestStats
from services.ledger.settle import BatchResult, record_stats
from services.ledger.timings import count_timings
from services.ledger.topics import TOPICS
from services.mail.message import Attachment, Mail
from services.mail.outbox import record_mails
from services.mail.outbox_admin import MailDecision, MailDecisionInvalid, resend_mail
from services.retention import delete
from services.retention.delete import delete_old_rows, list_old_rows
from services.retention.rules import RULES, Rule
from tests.retention.aged_rows import NOW, insert
from tests.retention.old_rows import run_job, select_all


@pytest.fixture
def jobs(engine: Engine) -> Engine:
    """An hourly and a daily job."""
    with transaction(engine) as tx:
        for name, covers in (("hourly", "moment"), ("daily", "day")):
            tx.execute(
                text(
                    "insert into jobs (name, topic, title, schedule, zone, per_shop, covers, grace_seconds, "
                    "catch_up, min_run_seconds, volume, evidence, first_seen_at) values (:name, 'x', 'x', "
                    "'0 0 * * *', 'fleet', false, :covers, 60, 'once', 0, '', '', now())"
                ),
                {"name": name, "covers": covers},
            )
    return engine


CASES: list[tuple[str, dict[str, Any], float, bool]] = [
    ("work_queue", {}, 91, True),
    ("work_queue", {}, 89, False),
    ("work_queue", {"status": "discarded"}, 91, True),
    ("work_queue", {"status": "dead"}, 900, False),
    ("work_queue", {"status": "error"}, 900, False),
    ("work_queue", {"status": "pending"}, 900, False),
    ("work_queue", {"event_id": 4711}, 91, True),
    ("job_runs", {"job": "hourly"}, 41, True),
    ("job_runs", {"job": "hourly"}, 39, False),
    ("job_runs", {"job": "hourly", "is_open": True}, 900, False),
    ("job_runs", {"job": "daily"}, 790, False),
    ("job_runs", {"job": "daily"}, 801, True),
    ("monitor_checkins", {}, 41, True),
    ("monitor_checkins", {}, 39, False),
    ("monitor_checkins", {"is_open": True}, 900, False),
    ("work_stats", {}, 41, True),
    ("work_stats", {}, 39, False),
    ("request_counts", {}, 41, True),
    ("request_counts", {}, 39, False),
    ("cost_references", {}, 41, True),
    ("cost_references", {}, 39, False),
    ("statement_stats", {}, 8, True),
    ("statement_stats", {}, 6, False),
    ("user_sessions", {}, 41, True),
    ("user_sessions", {}, 39, False),
    ("sign_in_locks", {}, 41, True),
    ("sign_in_locks", {}, 39, False),
    ("table_sizes", {}, 801, True),
    ("table_sizes", {}, 799, False),
    ("request_errors", {}, 41, True),
    ("request_errors", {}, 39, False),
]


@pytest.mark.parametrize(("table", "values", "days", "is_deleted"), CASES)
def test_rows_are_deleted_by_age(
    jobs: Engine, table: str, values: dict[str, Any], days: float, is_deleted: bool
) -> None:
    insert(jobs, table, days, **values)

    stats = run_job(jobs)

    where = "where byte_count = 1" if table == "table_sizes" else ""  # the job adds the sizes of this day
    assert select_all(jobs, f"select count(*) from {table} {where}") == [int(not is_deleted)]  # noqa: S608
    assert stats[f"{table}_deleted"] == int(is_deleted)


def test_a_given_up_call_to_shopify_stays_because_stock_is_computed_with_it(engine: Engine) -> None:
    insert(engine, "work_queue", 900, status="discarded", payload='{"quantity": 3}')
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set topic = 'inventory_push'"))

    run_job(engine)

    assert select_all(engine, "select status from work_queue") == ["discarded"]


def test_age_zero_keeps_every_row(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    insert(engine, "work_stats", 9000)
    monkeypatch.setenv("RETENTION_STATS_DAYS", "0")
    get_settings.cache_clear()

    assert "work_stats_deleted" not in run_job(engine)

    assert select_all(engine, "select count(*) from work_stats") == [1]
    monkeypatch.undo()
    get_settings.cache_clear()


def delete_by(engine: Engine, table: str, before: datetime = NOW - timedelta(days=41)) -> int:
    rule: Rule = next(rule for rule in RULES if rule.table == table)
    return delete_old_rows(transaction, rule, before, NOW, lambda: False)


@pytest.mark.parametrize("table", ["work_queue", "work_stats", "request_counts", "mail_outbox"])
def test_old_rows_on_several_pages_are_all_found(
    engine: Engine, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delete, "PAGE_ROWS", 3)
    status = {"status": "sent"} if table == "mail_outbox" else {}
    for number in range(10):
        insert(engine, table, 200 - number, **status)
    insert(engine, table, 1, **status)

    assert delete_by(engine, table) == 10


def test_many_rows_of_one_minute_are_all_deleted(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delete, "PAGE_ROWS", 3)
    with transaction(engine) as tx:
        tx.execute(
            text(
                "insert into request_counts (minute, shop, provider, outcome, route, status, count) "
                "select :at, cast(n as text), 'stripe', 'accepted', '', 200, 1 from generate_series(1, 10) n"
            ),
            {"at": NOW - timedelta(days=50)},
        )

    assert delete_by(engine, "request_counts") == 10


def test_a_locked_row_is_left_for_the_next_night_and_nothing_waits(engine: Engine) -> None:
    ids = [insert(engine, "work_queue", 100 - number) for number in range(3)]
    with transaction(engine) as other:
        other.execute(text("select 1 from work_queue where id = :id for update"), {"id": ids[1]})

        assert delete_by(engine, "work_queue") == 2

    assert select_all(engine, "select id from work_queue") == [ids[1]]
    assert delete_by(engine, "work_queue") == 1


def test_counters_keep_their_totals_when_old_minutes_are_deleted(engine: Engine) -> None:
    old, topic = NOW - timedelta(days=50), TOPICS["order_ingest"]
    requests = RequestStats(engine)
    for at in (old, NOW):
        requests.count(at, "harbour", "stripe", "accepted", "/webhooks/stripe", 200, 5)
        requests.flush()
        for worker in ("w1", "w2"):
            with transaction(engine) as tx:
                record_stats(tx, topic, worker, BatchResult(done=5), at)

    def totals() -> dict[tuple[str, ...], float]:
        with transaction(engine) as tx:
            samples = [sample for family in read_totals(tx) for sample in family.samples]
        return {tuple(sample.labels.values()): sample.value for sample in samples if sample.value}

    before = totals()
    run_job(engine)

    assert before == totals() == {("order_ingest", "done"): 20, ("stripe", "accepted"): 2}
    assert select_all(engine, "select count(*) from work_stats where minute > '1971-01-01Z'") == [2]


def test_totals_of_ended_workers_become_one_row_of_each_topic(engine: Engine) -> None:
    for worker, at in (("w1", NOW - timedelta(days=9)), ("w2", NOW - timedelta(days=8)), ("w3", NOW)):
        with transaction(engine) as tx:
            timings = count_timings([1.0], [], [])
            record_stats(tx, TOPICS["order_ingest"], worker, BatchResult(done=5), at, timings)

    for _ in range(2):
        run_job(engine)

    rows = select_all(engine, "select worker, done from work_stats where minute < '1971-01-01Z' order by 1")
    assert rows == [("", 10), ("w3", 5)]
    kept = select_all(engine, "select timings from work_stats where minute < '1971-01-01Z' order by worker")
    assert kept == [count_timings([1.0, 1.0], [], []), count_timings([1.0], [], [])]


def make_mail(engine: Engine, days: float, status: str) -> int:
    mail = Mail(
        shop_id=None, kind="digest", period="2026-01", recipient="a@b.example", subject="s", text="t",
        html="h",
        attachments=(Attachment(name="a.txt", content_type="text/plain", content=b"x"),),
    )  # fmt: skip
    with transaction(engine) as tx:
        record_mails(tx, [mail], NOW - timedelta(days=days))
        tx.execute(text("update mail_outbox set status = :status"), {"status": status})
        return int(tx.execute(text("select id from mail_outbox")).scalar_one())


@pytest.mark.parametrize(
    ("days", "status", "is_emptied"),
    [
        (181, "sent", True),
        (181, "refused", True),
        (179, "sent", False),
        (900, "unknown", False),
        (900, "queued", False),
    ],
)
def test_the_text_of_a_mail_is_deleted_by_age_and_its_key_stays(
    engine: Engine, days: float, status: str, is_emptied: bool
) -> None:
    make_mail(engine, days, status)

    run_job(engine)

    (row,) = select_all(
        engine, "select subject, text, html, has_parts, emptied_at is not null from mail_outbox"
    )
    assert row == (("", "", "", False, True) if is_emptied else ("s", "t", "h", True, False))
    assert select_all(engine, "select count(*) from mail_parts") == [int(not is_emptied)]
    make_mail(engine, 0, status)
    assert select_all(engine, "select count(*) from mail_outbox") == [1], "the key never expires"


def test_a_mail_whose_work_waits_for_a_person_keeps_its_text(engine: Engine) -> None:
    work_id = insert(engine, "work_queue", 200, status="dead")
    insert(engine, "mail_outbox", 200, status="refused", work_id=work_id)

    run_job(engine)

    assert select_all(engine, "select text from mail_outbox") == ["text"]


def test_an_emptied_mail_is_not_sent_again(engine: Engine) -> None:
    mail_id = make_mail(engine, 200, "sent")
    run_job(engine)

    with transaction(engine) as tx, pytest.raises(MailDecisionInvalid, match="RETENTION_MAIL_DAYS"):
        resend_mail(tx, MailDecision(mail_id=mail_id, by="ada", reason="lost"), NOW)


def test_the_command_shows_rows_and_bytes_that_are_old_and_changes_nothing(engine: Engine) -> None:
    for days in (1, 50, 60):
        insert(engine, "request_counts", days)

    with transaction(engine) as tx:
        lines = {line.rule.rows: line for line in list_old_rows(tx, get_settings(), NOW)}

    found = lines["requests per minute, shop and route"]
    assert (found.rows, found.oldest) == (2, NOW - timedelta(days=60))
    assert found.bytes > 0
    assert sum(line.rows for line in lines.values()) == 2
    assert select_all(engine, "select count(*) from request_counts") == [3]
