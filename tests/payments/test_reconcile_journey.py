"""Daily reconciliation from the schedule to the owner's mail: real runners, real SMTP."""

import random
import threading
from collections.abc import Iterator
from datetime import timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import Engine, text

from services.closing.daily import check_day
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.jobs.handler import JobHandler
from services.jobs.schedule import day_bounds, find_due_day
from services.jobs.scheduler import start_due_runs
from services.jobs.store import record_jobs
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.mail.send import MailSendHandler
from services.sandbox.serve import SandboxServer
from services.shops.secrets import record_secret
from tests.fakes.smtp import Sink, smtp_server
from tests.shopify.sample_payloads import add_shop, rows

STRIPE_KEY = "sk_test_0123456789abcdef"
WORK = (
    "select topic, status, result, error_code from work_queue "
    "where topic in ('reconcile', 'mail_send') order by id"
)


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sink]:
    """A mail server, set in the settings."""
    sink = Sink()
    with smtp_server(sink) as url:
        monkeypatch.setenv("SMTP_URL", url)
        yield sink


@pytest.fixture
def stripe(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A sandbox, set in the settings."""
    server = SandboxServer(0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("STRIPE_API_BASE", f"{server.url}/stripe")
    yield server.url
    server.shutdown()
    server.server_close()
    thread.join(60)


def work(engine: Engine) -> None:
    """Run the nightly worker and the mail worker once."""
    runner = ExternalRunner(engine, "tests", random.Random(1))
    runner.run_batch(TOPICS["reconcile"], JobHandler(check_day))
    runner.run_batch(TOPICS["mail_send"], MailSendHandler(lambda: engine))


def test_charge_that_our_books_miss_is_in_the_owners_mail(engine: Engine, mails: Sink, stripe: str) -> None:
    from beat_schedule import JOBS

    get_settings.cache_clear()
    now = utc_now()
    day = find_due_day(ZoneInfo("America/Los_Angeles"), now)
    noon = day_bounds(ZoneInfo("America/Los_Angeles"), day)[0] + timedelta(hours=12)
    shop_id = add_shop(engine)
    with transaction(engine) as tx:
        record_secret(tx, shop_id, "stripe-key", STRIPE_KEY, now)
        tx.exec_driver_sql("update shop_config set owner_email = 'owner@example.com'")
        tx.execute(text("update shops set created_at = :at"), {"at": now - timedelta(days=9)})
        tx.execute(
            text(
                "insert into transactions (shop_id, provider_id, kind, status, amount_cents, currency, "
                "occurred_at, version_at) values (1, 'ch_known', 'charge', 'paid', 500, 'CAD', :at, :at)"
            ),
            {"at": noon},
        )
    charges = [
        {"id": f"ch_{name}", "amount": 500, "currency": "cad", "created": int(noon.timestamp())}
        for name in ("known", "missed")
    ]
    httpx.post(f"{stripe}/_control", json={"stripe_key": STRIPE_KEY, "charges": charges}).raise_for_status()

    with transaction(engine) as tx:
        record_jobs(tx, JOBS, now - timedelta(days=1))
        start_due_runs(tx, now)
    work(engine)
    get_settings.cache_clear()

    assert rows(engine, WORK) == [
        ("reconcile", "done", "breaks", None),
        ("mail_send", "done", "sent", None),
    ]
    (mail,) = mails.mails
    mail_text = mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert "ch_missed" in mail_text
    assert "5.00 CAD, paid" in mail_text
    assert "ch_known" not in mail_text
    ((status, stats, origin),) = rows(
        engine, "select status, stats, origin from job_runs where job = 'daily-reconciliation'"
    )
    assert (status, origin) == ("done", "beat")
    assert {"ours": 1, "theirs": 2, "breaks": 1, "breaks_missing_here": 1}.items() <= stats.items()
