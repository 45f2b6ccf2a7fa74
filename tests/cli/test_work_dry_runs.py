"""A dry run of requeue, discard and unlock counts by shop and topic, and names what is left out."""

import json
import re

import click
import pytest
from sqlalchemy import Engine, text

from services.core.db import transaction
from tasks.commands import discard, requeue, unlock
from tests.cli.test_celery_commands import dead, harbour, run
from tests.ledger_rows import plan

__all__ = ["harbour"]


@pytest.mark.parametrize(("command", "more"), [(requeue, ()), (discard, ("--reason", "x"))])
def test_a_dry_run_counts_by_shop_and_topic_and_names_what_is_left_out(
    engine: Engine, harbour: int, command: click.Command, more: tuple[str, ...]
) -> None:
    dead(engine, 2, shop_id=harbour)
    locked, *_ = dead(engine, 1, shop_id=harbour)
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set locked_at = now() where id = :id"), {"id": locked})

    shown = run(command, *more, "--dry-run").output
    answer = json.loads(run(command, *more, "--dry-run", "--json").output)

    assert re.search(r"harbour +inventory_push +dead +2", shown)
    assert "Left out: 1 item, locked by a worker." in shown
    assert [(one["shop"], one["topic"], one["count"]) for one in answer["groups"]] == [
        ("harbour", "inventory_push", 2)
    ]
    assert (answer["count"], answer["left_out"]) == (2, 1)


def test_a_dry_run_of_unlock_names_younger_locks(engine: Engine) -> None:
    old, young = plan(engine, "inventory_push", 2)
    with transaction(engine) as tx:
        for row_id, age in ((old, "40 minutes"), (young, "20 minutes")):
            tx.execute(
                text("update work_queue set locked_at = now() - cast(:age as interval) where id = :id"),
                {"age": age, "id": row_id},
            )

    shown = run(unlock, "--older-than", "30m", "--dry-run").output

    assert "1 item would be unlocked" in shown
    assert "Left out: 1 item, locked by a worker for a shorter time." in shown
