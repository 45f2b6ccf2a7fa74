"""``fleet backfill run`` says which orders it could not read."""

import json

from click.testing import CliRunner

from services.cli.main import main
from tests.shopify.backfill.fake_shop import DOMAIN, Shops, control
from tests.shopify.backfill.test_first_contact import backfill


def test_the_command_names_the_orders_that_its_since_does_not_reach(shops: Shops) -> None:
    control(shops.url, shop=DOMAIN, scopes=["read_orders"])
    backfill(shops)
    line = ["backfill", "run", "--shop", "holed", "--since"]
    cut, whole = (CliRunner().invoke(main, [*line, since]).output for since in ("120d", "1h"))
    document = json.loads(CliRunner().invoke(main, [*line, "120d", "--json", "--dry-run"]).output)

    assert "cannot be read: grant read_all_orders" in cut
    assert "read_all_orders" not in whole
    assert document["limit"] in cut
