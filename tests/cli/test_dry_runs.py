"""``--dry-run`` checks the same input as the command without it, and changes no row of any table."""

import json
import shlex

import pytest
from sqlalchemy import Engine, insert

from services.alerts.incidents import Incident, record_incidents
from services.core.db import transaction
from services.mail.tables import mail_outbox
from services.schema.models import metadata
from tests.cli.commands import run
from tests.ledger_rows import NOW
from tests.mail.test_round_trips import ROW

LINES = [
    "shops add mill --name Mill --timezone UTC --currency CAD",
    "shops set harbour currency=USD --name Pier",
    "shops staff harbour 4711=Dana",
    "shops secret harbour shopify-webhook --generate",
    "month-close tax-profile --shop harbour --province CA-BC",
    "incidents resolve 1 --reason x",
    "mail resend 1 --reason x -f",
    "mail mark-sent 1 --reason x -f",
    "jobs pause weekly-audit-archive",
    'jobs set daily-reconciliation --shop harbour --at "30 0 * * *"',
]


@pytest.fixture
def shop(engine: Engine, harbour: str) -> Engine:
    """A shop with an incident and a mail of unknown outcome."""
    assert run("jobs", "list").exit_code == 0  # records the jobs
    with transaction(engine) as tx:
        record_incidents(tx, [Incident(1, "clocks_apart", "a", "P2", "x")], NOW)
        tx.execute(insert(mail_outbox).values(**ROW | {"shop_id": 1}))
    return engine


def read_rows(engine: Engine) -> dict[str, list[str]]:
    with transaction(engine) as tx:
        return {
            table: sorted(tx.exec_driver_sql(f"select t::text from {table} t").scalars())  # noqa: S608
            for table in metadata.tables
        }


@pytest.mark.parametrize("line", LINES)
def test_a_dry_run_changes_nothing_and_the_same_line_without_it_does(shop: Engine, line: str) -> None:
    before = read_rows(shop)
    planned, document = (run(*shlex.split(line), "--dry-run", *more) for more in ((), ("--json",)))
    after_plan = read_rows(shop)
    done = run(*shlex.split(line))

    assert planned.exit_code == done.exit_code == 0, planned.output + done.output
    assert after_plan == before
    assert json.loads(document.stdout)["dry_run"] is True
    assert "would" in planned.output.lower()
    assert read_rows(shop) != before
    assert "would" not in done.output.lower()


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("shops add harbour --name Mill --timezone UTC --currency CAD", "slug='harbour' is taken"),
        ("shops set harbour currency=CAN", "did you mean 'CAD'?"),
        ("shops secret harbour stripe-key --generate", "stripe-key cannot be generated"),
        ('jobs set daily-reconciliation --at "x"', "x"),
    ],
)
def test_a_dry_run_refuses_what_the_command_refuses(shop: Engine, line: str, fault: str) -> None:
    refused = run(*shlex.split(line), "--dry-run")

    assert refused.exit_code == 2, refused.output
    assert fault in refused.output
