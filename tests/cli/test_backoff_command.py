"""``celery -A tasks backoff``, and actions of the operator's commands on the timeline of an incident."""

import json
from datetime import timedelta
from random import Random

import pytest
from sqlalchemy import Engine, text

from services.alerts.incidents import Incident, record_incidents
from services.alerts.people import list_entries
from services.core.db import transaction
from services.core.errors import Deferred, RetryLater
from services.jobs.conditions import count_conditions
from services.ledger.claim import claim_leased
from services.ledger.settle import plan_settlement, settle_batch
from services.ledger.topics import TOPICS, plan_next_try
from services.ledger.work import Outcome
from tasks.commands import backlog, backoff, discard, pause, requeue, resume, unlock
from tests.cli.test_celery_commands import dead, run
from tests.ledger_rows import NOW, plan, statuses

PUSH = ("--topic", "inventory_push")


class Whole(Random):
    """Every wait is the longest."""

    def random(self) -> float:
        return 1.0


def fail(engine: Engine, outcome: Outcome, topic: str = "inventory_push") -> timedelta:
    """Let one new item of ``topic`` fail with ``outcome``; return how long it waits."""
    (item_id,) = plan(engine, topic, 1)
    with transaction(engine) as tx:
        (item,) = claim_leased(tx, TOPICS[topic], NOW, "t", 0).items
        settlement = plan_settlement(TOPICS[topic], item, outcome, NOW, Whole())
        assert settle_batch(tx, [settlement], NOW, "t") == {item_id}
        at = tx.scalar(text("select next_retry_at from work_queue where id = :id"), {"id": item_id})
        tx.execute(text("update work_queue set status = 'discarded' where id = :id"), {"id": item_id})
    assert at is not None
    wait: timedelta = at - NOW
    return wait


USUAL = plan_next_try(TOPICS["inventory_push"], 1, None, NOW, Whole()) - NOW


def test_retries_of_the_topic_wait_longer_until_the_factor_is_1(engine: Engine) -> None:
    assert fail(engine, RetryLater("x", "y")) == USUAL
    done = run(backoff, *PUSH, "--factor", "4", "-f", "--as", "ada", "--reason", "Shopify is slow")
    assert done.output == "Done: retries of inventory_push wait 4 times as long (before: 1).\n"

    assert fail(engine, RetryLater("x", "y")) == 4 * USUAL
    asked = timedelta(minutes=2)
    assert fail(engine, RetryLater("x", "y", wait=asked)) == 4 * asked
    assert fail(engine, Deferred("x", "y", wait=asked)) == asked, "it did not fail"
    assert fail(engine, RetryLater("x", "y"), "mail_send") == USUAL
    assert "(before: 4)" in run(backoff, *PUSH, "--factor", "1", "-f").output
    assert fail(engine, RetryLater("x", "y")) == USUAL
    with transaction(engine) as tx:
        found = tx.execute(
            text(
                "select e.action, e.staff_label, m.summary from audit_events e"
                " join audit_mutations m on m.event_id = e.id order by e.id limit 1"
            )
        ).one()
    summary = "retries of inventory_push wait 4 times as long (before: 1)"
    assert tuple(found) == ("topic.backoff", "ada", summary)


def test_it_shows_in_the_backlog_and_is_a_condition(engine: Engine) -> None:
    run(backoff, *PUSH, "--factor", "2.5", "-f", "--as", "ada", "--reason", "Shopify is slow")

    (row,) = json.loads(run(backlog, "--json").output)["backoffs"]
    assert (row["topic"], row["factor"], row["created_by"]) == ("inventory_push", 2.5, "ada")
    assert "Retries wait longer" in run(backlog).output
    with transaction(engine) as tx:
        assert count_conditions(tx, NOW) == {"pauses": {"backoff": 1}}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--topic", "none", "--factor", "2"), "none"),
        ((*PUSH, "--factor", "0.5"), "should be a number from 1 to 100"),
        ((*PUSH, "--factor", "200"), "should be a number from 1 to 100"),
        (PUSH, "--factor"),
        ((*PUSH, "--factor", "2", "--incident", "7"), "there is no incident 7"),
    ],
)
def test_wrong_values_change_nothing(engine: Engine, arguments: tuple[str, ...], error: str) -> None:
    refused = run(backoff, *arguments, "-f")

    assert (refused.exit_code, error in refused.output) == (2, True), refused.output
    with transaction(engine) as tx:
        assert count_conditions(tx, NOW) == {}


def test_a_dry_run_and_the_same_factor_change_nothing(engine: Engine) -> None:
    planned = json.loads(run(backoff, *PUSH, "--factor", "2", "--dry-run", "--json").output)
    assert (planned["changed"], planned["before"], planned["factor"]) == (False, 1, 2)
    assert "Nothing was changed" in run(backoff, *PUSH, "--factor", "1", "-f").output
    with transaction(engine) as tx:
        assert count_conditions(tx, NOW) == {}
        assert tx.scalar(text("select count(*) from audit_events")) == 0


def test_what_is_done_for_an_incident_is_on_its_timeline(engine: Engine) -> None:
    with transaction(engine) as tx:
        record_incidents(tx, [Incident(None, "work_dead:inventory_push", "d", "P2", "9 dead")], NOW)

    link = ("--incident", "1", "--as", "ada", "-f")
    run(backoff, *PUSH, "--factor", "4", *link, "--reason", "Shopify is slow")
    run(pause, *PUSH, "--refuse", *link)
    run(resume, *PUSH, *link, "--reason", "they are back")
    item, _ = dead(engine, 2)
    run(discard, "--id", f"{item}", *link, "--reason", "sold out")
    run(requeue, *PUSH, *link)
    run(requeue, *PUSH, *link)
    with transaction(engine) as tx:
        tx.execute(text("update work_queue set locked_at = now() - interval '1 hour', locked_by = 'w'"))
    run(unlock, *PUSH, *link)

    with transaction(engine) as tx:
        entries = [(one.kind, one.by, one.text) for one in list_entries(tx, 1)][1:]
    assert entries == [
        ("action", "ada", "retries of inventory_push wait 4 times as long: Shopify is slow"),
        ("action", "ada", "paused topic inventory_push (refuse)"),
        ("action", "ada", "resumed topic inventory_push at once: they are back"),
        ("action", "ada", f"discarded 1 item (id {item}): sold out"),
        ("action", "ada", "requeued 1 item (topic inventory_push)"),
        ("action", "ada", "unlocked 1 item (topic inventory_push)"),
    ]


def test_nothing_is_done_for_an_incident_that_is_resolved(engine: Engine) -> None:
    with transaction(engine) as tx:
        record_incidents(tx, [Incident(None, "work_dead:inventory_push", "d", "P2", "9 dead")], NOW)
        tx.execute(text("update incidents set status = 'resolved'"))

    dead(engine, 1)
    because = ("--reason", "x")
    for command, more in (
        (backoff, ("--factor", "4")),
        (pause, ()),
        (requeue, ()),
        (discard, because),
    ):
        refused = run(command, *PUSH, *more, "--incident", "1", "-f")
        assert (refused.exit_code, "is resolved already" in refused.output) == (1, True)
    with transaction(engine) as tx:
        assert "pauses" not in count_conditions(tx, NOW)
    assert statuses(engine) == {"dead": 1}
