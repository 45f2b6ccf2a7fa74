"""A blocked row is claimed later although its message found nothing to do."""

from random import Random

from sqlalchemy import Connection, Engine, text

from services.core.clock import utc_now
from services.core.db import transaction
from services.ledger.claim import SUSPECT_SENDS, claim_leased
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.ledger.work import Done, PreparedCall
from tests.ledger_rows import plan, statuses

TOPIC = TOPICS["inventory_push"]


class Calls:
    """An effect whose calls all succeed."""

    def prepare(self, tx: Connection, items: list, now: object) -> list[PreparedCall]:
        return [PreparedCall(item=item, act=lambda: Done("pushed")) for item in items]


def test_row_blocked_by_its_key_is_claimed_after_any_number_of_messages(engine: Engine) -> None:
    first, second = plan(engine, "inventory_push", 2, keys=["one", "one"])
    with transaction(engine) as tx:
        held = claim_leased(tx, TOPIC, utc_now(), "dead worker")
        tx.execute(
            text("update work_queue set dispatch_count = :sent where id = :id"),
            {"sent": SUSPECT_SENDS + 7, "id": second},
        )
    assert [item.id for item in held.items] == [first]
    assert ExternalRunner(engine, "next", Random(1)).run_batch(TOPIC, Calls()).claimed == 0

    with transaction(engine) as tx:
        tx.execute(
            text("update work_queue set locked_at = null, locked_by = null where id = :id"), {"id": first}
        )
    runner = ExternalRunner(engine, "next", Random(1))
    while runner.run_batch(TOPIC, Calls()).claimed:
        pass

    assert statuses(engine) == {"done": 2}


def test_batch_reports_more_work_while_rows_wait_for_its_key(engine: Engine) -> None:
    plan(engine, "inventory_push", 3, keys=["one", "one", "two"])
    runner = ExternalRunner(engine, "next", Random(1))

    first, second = (runner.run_batch(TOPIC, Calls()) for _ in range(2))

    assert [(set_.claimed, set_.more) for set_ in (first, second)] == [(2, True), (1, False)]


def test_oldest_row_of_a_key_is_claimed_first_even_if_it_became_due_later(engine: Engine) -> None:
    first, _second = plan(engine, "inventory_push", 2, keys=["one", "one"])
    with transaction(engine) as tx:
        tx.execute(
            text(
                "update work_queue set status = 'error', retry_count = 1, next_retry_at = now()"
                " where id = :id"
            ),
            {"id": first},
        )

    with transaction(engine) as tx:
        claim = claim_leased(tx, TOPIC, utc_now(), "next")

    assert [item.id for item in claim.items] == [first]
