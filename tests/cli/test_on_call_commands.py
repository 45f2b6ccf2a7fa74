"""The commands of ``docs/on-call.md`` work on rows like those of its examples."""

import re
import shlex

import pytest
from sqlalchemy import Engine

from services.core.db import transaction
from tests.cli.commands import ADD, run
from tests.cli.test_celery_commands import run as run_celery
from tests.ledger_rows import plan
from tests.structure.test_examples import CELERY
from tests.structure.test_on_call import COMMANDS

NEEDS_MORE = re.compile(r"fleet (doctor|mail test|shops secret)|celery -A tasks inspect")
"""Needs a whole fleet or a terminal; other tests run it."""

NEEDS_SHOPIFY = "fleet shopify subscriptions"
LINES = [
    line.removeprefix("shopfleet ").removeprefix("--owner ")
    for line in dict.fromkeys(COMMANDS)
    if line.startswith("shopfleet")
]
PREPARE = (
    "update work_queue set status = 'dead', error_code = 'shopify.stock_contended'",
    "insert into incidents (id, shop_id, rule, period, severity, summary, opened_at, updated_at) overriding "
    "system value values (7, 1, 'audit_chain_failed', '2026-11-20', 'P1', 'row 3 altered', now(), now())",
    """insert into audit_verifications (shop_id, at, findings) values (1, now(), '["row 3 altered"]')""",
)


@pytest.mark.parametrize("line", [line for line in LINES if not NEEDS_MORE.match(line)])
def test_a_command_of_the_page_works(engine: Engine, broker_url: str, line: str) -> None:
    assert run("shops", "add", "acme", *ADD).exit_code == 0
    (work_id,) = plan(engine, "inventory_push", 1)
    with transaction(engine) as tx:
        for statement in PREPARE:
            tx.exec_driver_sql(statement)

    words = shlex.split(line.replace("4711", str(work_id)))
    result = run(*words[1:]) if words[0] == "fleet" else run_celery(CELERY[words[3]], *words[4:])

    if line.startswith(NEEDS_SHOPIFY):
        assert "has no shopify_domain" in result.output
    elif line.startswith("fleet audit verify"):
        assert "audit_chain_failed" in result.output or "finding open" in result.output
    else:
        assert result.exit_code == 0, result.output
