"""A shop with people, and the work of its series as workers do it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, text

import beat_schedule
from services.core.db import transaction
from services.jobs.handler import JobHandler
from services.jobs.runs import trigger_job
from services.jobs.store import get_job, record_jobs
from services.ledger.runner_external import ExternalRunner
from services.ledger.runner_transactional import TransactionalRunner
from services.ledger.topics import TOPICS
from services.mail.send import MailSendHandler
from services.outreach.follow import follow_outreach
from services.outreach.handler import compose_segments
from services.outreach.job import start_series
from services.outreach.people import ImportCounts, import_people
from services.outreach.person import COLUMNS, PersonParser
from services.shops.shops import Shop, add_shop
from tests.fakes.settings import settings_of
from tests.fakes.smtp import Scripted

SINCE = datetime(2026, 9, 1, tzinfo=UTC)
# Friday 20 November 2026, 09:00 UTC: 01:00 or 02:00 in Vancouver, 10:00 in Berlin.
NINE = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
TWO_PM = NINE.replace(hour=14)
DAY = timedelta(days=1)
SENDS = """
select p.external_id, s.step, s.status from outreach_sends s join outreach_people p on p.id = s.person_id
 order by 1, 2"""
MAILS = "select recipient, status from mail_outbox order by recipient, id"


@dataclass
class Audience:
    """A shop in Berlin and the SMTP server of its mail."""

    engine: Engine
    shop: Shop
    smtp: Scripted
    monkeypatch: pytest.MonkeyPatch

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with transaction(self.engine) as tx:
            return [tuple(row) for row in tx.execute(text(query))]

    def add(self, *people: dict[str, Any], now: datetime = NINE) -> ImportCounts:
        """Import people who signed up two months ago and gave consent then, with changes."""
        parser = PersonParser(now)
        parsed = [
            parser.parse(dict.fromkeys(COLUMNS, "") | make_cells(one), place)
            for place, one in enumerate(people, 1)
        ]
        with transaction(self.engine) as tx:
            return import_people(tx, self.shop.id, parsed, by="ada", now=now)

    def start(self, job: str, now: datetime, *, force: bool = False) -> str:
        """Start a run of the job, and plan its segments."""
        for module in ("outreach.job", "ledger.runner_external"):
            self.monkeypatch.setattr(f"services.{module}.utc_now", lambda: now)
        with transaction(self.engine) as tx:
            record_jobs(tx, beat_schedule.JOBS, SINCE)
            (found,) = trigger_job(
                tx, get_job(tx, job), "", None, origin="cli", force=force, by="ada", now=now
            )
        runner = ExternalRunner(self.engine, "tests", Random(1))
        runner.run_batch(TOPICS["outreach"], JobHandler(start_series))
        return found.found.value

    def compose(self, now: datetime) -> int:
        """Compose the planned segments at ``now``; return how many were done."""
        self.monkeypatch.setattr("services.ledger.runner_transactional.utc_now", lambda: now)
        done = 0
        runner = TransactionalRunner(self.engine, "tests", Random(1))
        while claimed := runner.run_batch(TOPICS["outreach_compose"], compose_segments).claimed:
            done += claimed
        return done

    def send(self) -> None:
        runner = ExternalRunner(self.engine, "tests", Random(1))
        while runner.run_batch(TOPICS["mail_send"], MailSendHandler()).claimed:
            pass

    def follow(self, now: datetime) -> None:
        with transaction(self.engine) as tx:
            follow_outreach(tx, now)

    def run(self, job: str, now: datetime, *, force: bool = False) -> dict[str, Any]:
        """Do a whole run at ``now``; return the figures of the newest run of the job."""
        self.start(job, now, force=force)
        self.compose(now)
        self.send()
        self.follow(now + timedelta(minutes=1))
        return self.stats(job)

    def stats(self, job: str) -> dict[str, Any]:
        """Return the figures of the newest run that are not zero."""
        found = self.rows(f"select stats from job_runs where job = '{job}' order by id desc limit 1")  # noqa: S608
        return {name: value for name, value in found[0][0].items() if value}


def make_cells(one: dict[str, Any]) -> dict[str, str]:
    usual = {
        "email": f"{one['external_id']}@example.com", "signed_up_at": NINE - 60 * DAY, "consent": "express",
        "consent_source": "sign-up form", "consent_given_at": NINE - 60 * DAY,
    }  # fmt: skip
    given = usual | one
    if not given["consent"]:
        given |= {"consent_source": "", "consent_given_at": ""}
    return {name: at.isoformat() if isinstance(at, datetime) else at for name, at in given.items()}


@contextmanager
def audience_of_harbour(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Audience]:
    with (
        Scripted().serving() as smtp,
        settings_of(SMTP_URL=smtp.url, PUBLIC_URL="https://hooks.example.com"),
    ):
        with transaction(engine) as tx:
            shop = add_shop(
                tx, slug="harbour", name="Harbour", timezone="Europe/Berlin", currency="EUR", now=SINCE,
                postal_address="Am Hafen 1, 20095 Hamburg, Germany", mail_contact="hello@harbour.example",
            )  # fmt: skip
        yield Audience(engine, shop, smtp, monkeypatch)
