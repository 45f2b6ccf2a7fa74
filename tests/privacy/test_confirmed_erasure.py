"""A shop is erased only after Shopify confirms the uninstall or a person confirms the erasure."""

from datetime import timedelta
from random import Random

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text

from services.cli.privacy import command
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, RetryLater
from services.ledger.runner_external import ExternalRunner
from services.ledger.topics import TOPICS
from services.privacy.customer_redaction import PrivacyRedactHandler
from services.privacy.store import URGENT_AFTER, record_unconfirmed_erasures
from services.shops.secrets import get_secret, record_secret
from tests.privacy.customers import JANES, JOHNS, dump_rows, find_words, request_privacy, unconfirmed, work
from tests.shopify.sample_payloads import rows

KEY = "rk_test_" + "a" * 24
WORK = "select status, error_code from work_queue where topic = 'privacy_redact' order by id"
INCIDENT = "select severity, status from incidents where rule = 'shop_redact_not_confirmed'"


def forge(engine: Engine, number: int = 200, **changes: object) -> None:
    """Receive ``shop/redact`` without a confirmed uninstall."""
    request_privacy(engine, "shop/redact", number, redact=unconfirmed(), **changes)


def test_unconfirmed_erasure_changes_nothing_and_is_an_incident(shop: Engine) -> None:
    with transaction(shop) as tx:
        record_secret(tx, 1, "stripe-key", KEY, utc_now())

    forge(shop)

    assert rows(shop, WORK) == [("dead", "shopify.erasure_not_confirmed")]
    assert find_words(dump_rows(shop), JOHNS + JANES)
    with transaction(shop) as tx:
        assert get_secret(tx, 1, "stripe-key") == KEY
        record_unconfirmed_erasures(tx, utc_now())
    assert rows(shop, INCIDENT) == [("P2", "open")]


def test_incident_rises_to_p1_at_day_20_and_names_the_last_day(shop: Engine) -> None:
    forge(shop)
    ((received_at, due_at),) = rows(shop, "select received_at, due_at from privacy_requests")
    assert due_at - received_at == timedelta(days=30)

    for now, severity in (
        (received_at + URGENT_AFTER - timedelta(seconds=1), "P2"),
        (received_at + timedelta(days=20), "P1"),
    ):
        with transaction(shop) as tx:
            record_unconfirmed_erasures(tx, now)
        assert rows(shop, INCIDENT) == [(severity, "open")]
    ((summary,),) = rows(shop, "select summary from incidents")
    assert f"the last day to erase the shop is {due_at:%Y-%m-%d}" in summary


def test_person_confirms_and_the_shop_is_erased(shop: Engine) -> None:
    forge(shop)
    with transaction(shop) as tx:
        record_unconfirmed_erasures(tx, utc_now())

    answer = CliRunner().invoke(command, ["confirm", "1", "--reason", "Ada closed her shop", "-f"])
    assert answer.exit_code == 0, answer.output
    work(shop, redact=unconfirmed())

    assert [status for status, _ in rows(shop, WORK)] == ["done"]
    assert find_words(dump_rows(shop), JOHNS + JANES) == set()
    assert rows(shop, INCIDENT) == [("P2", "resolved")]
    audited = rows(shop, "select summary from audit_mutations where table_name = 'privacy_requests'")
    assert ("erasure of the shop confirmed: Ada closed her shop",) in audited


def test_person_rejects_and_the_shop_is_kept(shop: Engine) -> None:
    forge(shop)
    with transaction(shop) as tx:
        record_unconfirmed_erasures(tx, utc_now())

    answer = CliRunner().invoke(command, ["reject", "1", "--reason", "the shop is open", "-f"])

    assert answer.exit_code == 0, answer.output
    assert rows(shop, "select status from privacy_requests") == [("rejected",)]
    assert rows(shop, "select status from work_queue where topic = 'privacy_redact'") == [("discarded",)]
    assert rows(shop, INCIDENT) == [("P2", "resolved")]
    with transaction(shop) as tx:
        record_unconfirmed_erasures(tx, utc_now())
    assert rows(shop, INCIDENT) == [("P2", "resolved")]
    again = CliRunner().invoke(command, ["confirm", "1", "--reason", "x", "-f"])
    assert again.exit_code == 2
    assert "ID=1 should be an open request shop_redact" in again.output


def test_uninstall_that_shopify_confirms_later_lets_the_erasure_go_on(shop: Engine) -> None:
    from services.ledger.work import WorkItem
    from services.shopify.uninstall import record_uninstalled

    forge(shop)
    confirmed = WorkItem(10**9, 1, "uninstall_confirm", "", {}, 0, "r", 5, "app/uninstalled", "shopify")
    with transaction(shop) as tx:
        record_uninstalled(tx, confirmed, "harbour", utc_now(), utc_now())

    work(shop, redact=unconfirmed())

    assert [status for status, _ in rows(shop, WORK)] == ["done"]
    assert find_words(dump_rows(shop), JOHNS + JANES) == set()


def test_shopify_that_does_not_answer_is_called_again_and_no_token_confirms_nothing(shop: Engine) -> None:
    def busy(_shop_id: int) -> bool:
        raise RetryLater("shopify.unavailable", "no answer")

    def no_token(_shop_id: int) -> bool:
        raise Misconfigured("shopify.no_token", "the shop has no token")

    assert (
        len(request_privacy(shop, "shop/redact", 200, redact=PrivacyRedactHandler(check=busy)).retried) == 1
    )
    with transaction(shop) as tx:
        tx.execute(
            text("update work_queue set next_retry_at = now() - interval '1 s' where status = 'error'")
        )
    ExternalRunner(shop, "tester", Random(1)).run_batch(
        TOPICS["privacy_redact"], PrivacyRedactHandler(check=no_token)
    )

    assert rows(shop, WORK) == [("dead", "shopify.erasure_not_confirmed")]


@pytest.mark.parametrize("topic", ["shop/redact", "customers/redact", "customers/data_request"])
def test_request_of_another_shop_is_refused_by_its_domain(shop: Engine, topic: str) -> None:
    report = request_privacy(shop, topic, 200, shop_domain="pier.myshopify.com", shop_id=4711)

    (dead,) = report.dead
    assert dead.error_code == "shopify.wrong_body"
    assert "shop_domain is 'pier.myshopify.com'" in (dead.last_error or "")
    assert find_words(dump_rows(shop), JOHNS)


def test_shop_is_known_by_shopifys_id_where_its_domain_is_another(shop: Engine) -> None:
    with transaction(shop) as tx:
        tx.execute(
            text("insert into storefronts (shop_id, shopify_id, updated_at) values (1, 954889, now())")
        )

    report = request_privacy(shop, "customers/redact", 200, shop_domain="renamed.myshopify.com")

    assert report.done == 1


@pytest.mark.parametrize("topic", ["shop/redact", "customers/redact", "customers/data_request"])
def test_request_with_a_key_too_many_is_refused(shop: Engine, topic: str) -> None:
    report = request_privacy(shop, topic, 200, note="x")

    assert [dead.error_code for dead in report.dead] == ["shopify.wrong_body"]


def test_past_uninstall_proves_nothing_while_the_shop_has_a_token(shop: Engine) -> None:
    """A token restored after a mistaken uninstall: Shopify is called again before an erasure."""
    with transaction(shop) as tx:
        confirmed = "insert into storefronts (shop_id, uninstalled_at, updated_at) values (1, now(), now())"
        tx.execute(text(confirmed))
        record_secret(tx, 1, "shopify-token", "shpat_" + "0" * 32, utc_now())
        tx.execute(text("update shop_secrets set created_at = now() - interval '1 day'"))

    forge(shop)

    assert rows(shop, WORK) == [("dead", "shopify.erasure_not_confirmed")]
    assert find_words(dump_rows(shop), JOHNS)


def test_decision_about_one_request_leaves_the_others_as_they_are(shop: Engine) -> None:
    forge(shop, 200)
    forge(shop, 201)

    assert CliRunner().invoke(command, ["reject", "1", "--reason", "forged", "-f"]).exit_code == 0

    assert rows(shop, "select status from privacy_requests order by id") == [("rejected",), ("open",)]
    statuses = "select status from work_queue where topic = 'privacy_redact' order by id"
    assert rows(shop, statuses) == [("discarded",), ("dead",)]


def test_confirmed_request_whose_work_was_discarded_is_done_all_the_same(shop: Engine) -> None:
    forge(shop)
    with transaction(shop) as tx:
        tx.execute(text("update work_queue set status = 'discarded' where topic = 'privacy_redact'"))

    answer = CliRunner().invoke(command, ["confirm", "1", "--reason", "Ada closed her shop", "-f"])
    assert answer.exit_code == 0, answer.output
    work(shop, redact=unconfirmed())

    assert rows(shop, "select status from privacy_requests") == [("done",)]
    assert find_words(dump_rows(shop), JOHNS + JANES) == set()
