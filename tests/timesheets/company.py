"""A company that is connected to the sandbox of QuickBooks Time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from threading import Thread
from typing import Any, cast

from sqlalchemy import Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.jobs.definition import Covers
from services.jobs.handler import JobRun
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import ExternalHandler
from services.mail.send import MailSendHandler
from services.providers.oauth import TokenGrant
from services.sandbox.serve import SandboxServer
from services.shops.secrets import record_secret
from services.shops.shops import Shop, add_shop
from services.shops.tokens import record_grant
from services.timesheets.account import QUICKBOOKS_TIME
from services.timesheets.definition import ReportDefinition
from services.timesheets.follow import follow_reports
from services.timesheets.handler import ReportSendHandler
from services.timesheets.job import run_due_reports
from services.timesheets.store import save_report, start_report
from tests.fakes.settings import settings_of
from tests.fakes.smtp import Scripted

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
# Monday 23 November 2026, 06:00 in Vancouver.
DUE = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
RUNS = "select period, status, coalesce(error_code, '') from report_runs order by due_at"
MAILS = "select recipient, status from mail_outbox where kind = 'timesheet_report' order by id"
CLIENT = "app-harbour"
PEOPLE = [
    {"id": 7, "first_name": "Dana", "last_name": "Ruiz", "payroll_id": "E-07"},
    {"id": 8, "username": "kai"},
]
JOBCODES = [{"id": 3, "name": "Repairs"}, {"id": 4, "name": "Holiday", "type": "pto"}]
TIMES = [
    {
        "id": 1, "user_id": 7, "jobcode_id": 3, "start": "2026-11-16T09:00:00-08:00",
        "end": "2026-11-16T22:00:00-08:00", "date": "2026-11-16", "duration": 46_800,
    },
    {"id": 2, "user_id": 8, "jobcode_id": 4, "type": "manual", "date": "2026-11-17", "duration": 28_800},
]  # fmt: skip


@dataclass
class Company:
    """A connected company and its sandbox."""

    engine: Engine
    server: SandboxServer
    shop: Shop

    def control(self, **request: Any) -> None:
        self.server.state.control({"time_company": CLIENT, **request})

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with transaction(self.engine) as tx:
            return [tuple(row) for row in tx.execute(text(query))]

    def save(self, **changes: Any) -> ReportDefinition:
        """Save a report that is due on Mondays at 06:00 for the week before."""
        usual: dict[str, Any] = {
            "name": "Payroll", "kind": "payroll", "schedule": "0 6 * * 1", "covers": Covers.WEEK,
            "recipients": ["pay@harbour.example"], "formats": ["csv", "xlsx"], "overtime": "CA-BC",
            "shop_id": self.shop.id,
        }  # fmt: skip
        with transaction(self.engine) as tx:
            return save_report(tx, ReportDefinition(**usual | changes), by="ada", now=SINCE)

    def serve(self, topic: str) -> None:
        handlers = {"report_send": ReportSendHandler(), "mail_send": MailSendHandler()}
        effect = cast("ExternalHandler", handlers[topic])
        ExternalRunner(self.engine, "tests", Random(1)).run_batch(TOPICS[topic], effect)

    def send(self) -> None:
        """Make the reports that were started, and send their mails."""
        self.serve("report_send")
        self.serve("mail_send")

    def start(self, report: ReportDefinition, period: str | None = "2026-W47") -> str:
        """Start a run by hand; return its status."""
        with transaction(self.engine) as tx:
            author: Any = {"by": "ada", "now": utc_now()}
            return start_report(tx, report, self.shop, period, origin="cli", **author).status

    def follow(self, now: datetime) -> None:
        """Bring the runs to the state of their work, as each tick of beat does."""
        with transaction(self.engine) as tx:
            follow_reports(tx, now)

    def run_due(self, monkeypatch: Any, now: datetime) -> dict[str, Any]:
        """Run the job ``run-due-reports`` at ``now``; return its stats."""
        monkeypatch.setattr("services.timesheets.job.utc_now", lambda: now)
        run = JobRun(
            id=1, job="run-due-reports", shop_id=None, period="2026-11-23T14:15:00Z", covers=Covers.MOMENT,
            zone=self.shop.zone, request_id="r-1", work_id=1,
        )  # fmt: skip
        found = run_due_reports(run)
        assert found.record is not None
        with transaction(self.engine) as tx:
            found.record(tx)
        return dict(found.stats)


@contextmanager
def connected_company(engine: Engine) -> Iterator[Company]:
    """A company with two people, connected an hour ago."""
    server = SandboxServer(0)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    base = f"{server.url}/quickbooks-time"
    with Scripted().serving() as mail, settings_of(QUICKBOOKS_TIME_API_BASE=base, SMTP_URL=mail.url):
        with transaction(engine) as tx:
            shop = add_shop(
                tx, slug="harbour", name="Harbour Bikes", timezone="America/Vancouver", currency="CAD",
                now=SINCE, owner_email="owner@harbour.example",
            )  # fmt: skip
            for name, value in (("client-id", CLIENT), ("client-secret", "s-1")):
                record_secret(tx, shop.id, QUICKBOOKS_TIME.name(name), value, SINCE)
            grant = TokenGrant("a-1", "r-1", timedelta(days=10), None)
            record_grant(tx, QUICKBOOKS_TIME, shop.id, grant, by="ada")
        company = Company(engine, server, shop)
        company.control(
            client_secrets=["s-1"], access_token="a-1", refresh_token="r-1",
            users=PEOPLE, jobcodes=JOBCODES, timesheets=TIMES,
        )  # fmt: skip
        yield company
    server.shutdown()
    server.server_close()
