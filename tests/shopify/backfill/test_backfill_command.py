"""``fleet backfill run`` says which orders it could not read."""

import json
from datetime import timedelta

from click.testing import CliRunner

from services.cli.main import main
from services.core.clock import utc_now
from services.core.db import transaction
from tests.shopify.backfill.fake_shop import DOMAIN, Shops, control, put_order
from tests.shopify.backfill.test_first_contact import backfill
from tests.shopify.backfill.test_refused_credentials import refuse


def test_the_command_names_the_orders_that_its_since_does_not_reach(shops: Shops) -> None:
    control(shops.url, shop=DOMAIN, scopes=["read_orders"])
    backfill(shops)
    line = ["backfill", "run", "--shop", "holed", "--since"]
    cut, whole = (CliRunner().invoke(main, [*line, since]).output for since in ("120d", "1h"))
    document = json.loads(CliRunner().invoke(main, [*line, "120d", "--json", "--dry-run"]).output)

    assert "cannot be read: grant read_all_orders" in cut
    assert "read_all_orders" not in whole
    assert document["limit"] in cut


def test_what_a_person_backfills_is_in_the_audit_with_who_and_why(shops: Shops) -> None:
    put_order(shops, utc_now() - timedelta(minutes=30), 1)
    line = ["backfill", "run", "--shop", "holed", "--since", "1h", "--actor", "ada", "--reason", "an outage"]
    find = (
        "select e.staff_label, m.summary from audit_events e join audit_mutations m on m.event_id = e.id "
        "where e.action = 'backfill.run'"
    )

    assert CliRunner().invoke(main, [*line, "--dry-run"]).exit_code == 0
    with transaction() as tx:
        assert tx.exec_driver_sql(find).all() == []
    done = CliRunner().invoke(main, line)
    with transaction() as tx:
        entries = [tuple(row) for row in tx.exec_driver_sql(find)]

    assert done.exit_code == 0, done.output
    assert [by for by, _ in entries] == ["ada"]
    assert entries[0][1].endswith("1 event without a webhook: an outage")


def test_a_refused_credential_is_named_with_the_command_that_replaces_it(shops: Shops) -> None:
    refuse(shops, "shopify", 403)
    refuse(shops, "stripe", 401)
    refused = CliRunner().invoke(main, ["backfill", "run", "--shop", "holed", "--dry-run"])

    assert (refused.exit_code, "; fleet shops secret holed shopify-token" in refused.stderr) == (1, True)
    assert ", fleet shops secret holed stripe-key" in refused.stdout
