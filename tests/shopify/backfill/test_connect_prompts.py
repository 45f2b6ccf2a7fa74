"""``fleet shops connect`` on a terminal: a refused token is named and prompted for again."""

import pytest

from services.core.clock import utc_now
from services.core.db import transaction
from services.shops.secrets import record_secret
from tests.cli.test_prompts import answer_on_terminal
from tests.cli.test_unknown_values import BIN
from tests.shopify.backfill.fake_shop import DOMAIN, TOKEN, Shops, control
from tests.shopify.backfill.test_connect import CLIENT_SECRET, connect, describe

NEWER, OTHER = "shpat_" + "0d" * 16, "shpat_" + "0e" * 16
REFUSAL = f"Shopify refuses shopify-token of {DOMAIN}: HTTP 401: the shop refuses the access token"


@pytest.fixture
def refused(shops: Shops) -> Shops:
    """``holed``, whose recorded token Shopify does not accept any more."""
    describe(shops)
    with transaction(shops.engine) as tx:
        record_secret(tx, shops.holed, "shopify-webhook", CLIENT_SECRET, utc_now())
    control(shops.url, shop=DOMAIN, token=NEWER)
    return shops


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize(("typed", "code", "refusals"), [(NEWER, 0, 1), (OTHER, 1, 4)])
def test_refused_token_is_named_and_prompted_for_again(typed: str, code: int, refusals: int) -> None:
    line = [str(BIN / "fleet"), "shops", "connect", "holed", "--dry-run"]
    found, shown = answer_on_terminal(line, b"shopify-token (", f"{typed}\n".encode())

    assert found == code, shown
    assert shown.count(REFUSAL) == refusals
    assert ("the credentials are right" in shown) == (code == 0)
    assert ("`fleet shops secret holed shopify-token --stdin`" in shown) == (code == 1)
    assert not any(secret in shown for secret in (TOKEN, NEWER, OTHER))


@pytest.mark.usefixtures("refused")
def test_without_a_terminal_the_command_that_records_a_token_is_named() -> None:
    done = connect("holed")

    assert done.exit_code == 1
    assert REFUSAL in done.output
    assert "`fleet shops secret holed shopify-token --stdin`" in done.output
