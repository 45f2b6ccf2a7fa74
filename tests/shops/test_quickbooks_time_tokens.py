"""The tokens of QuickBooks Time: refreshed in time, with the former client secret, and after a race."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.shops.secrets import get_secret, record_secret
from services.shops.tokens import get_access_token
from services.timesheets.account import QUICKBOOKS_TIME
from tests.timesheets.company import Company
from tests.timesheets.conftest import company as company  # noqa: PLC0414 - the fixture

EXPIRED, HALF_WAY = timedelta(days=-1), timedelta(days=4)


def expires_in(company: Company, left: timedelta) -> None:
    with transaction(company.engine) as tx:
        tx.execute(text("update connections set token_expires_at = :at"), {"at": utc_now() + left})


def set_secret(company: Company, part: str, value: str, **options: Any) -> None:
    with transaction(company.engine) as tx:
        record_secret(tx, company.shop.id, QUICKBOOKS_TIME.name(part), value, utc_now(), **options)


def get_token(company: Company, refused: str = "") -> str:
    return get_access_token(QUICKBOOKS_TIME, company.shop.id, utc_now(), refused=refused)


def stored(company: Company, part: str) -> str | None:
    with transaction(company.engine) as tx:
        return get_secret(tx, company.shop.id, QUICKBOOKS_TIME.name(part))


def test_a_token_is_refreshed_when_half_of_its_life_is_over(company: Company) -> None:
    assert get_token(company) == "a-1"
    expires_in(company, HALF_WAY)
    token = get_token(company)
    assert token not in ("", "a-1")
    assert stored(company, "token") == token
    assert stored(company, "refresh-token") != "r-1"
    (expires,) = company.rows("select token_expires_at - now() > interval '9 days' from connections")[0]
    assert expires


@pytest.mark.parametrize("left", [HALF_WAY, EXPIRED])
def test_a_replaced_client_secret_is_valid_for_a_day(company: Company, left: timedelta) -> None:
    set_secret(company, "client-secret", "s-2")  # QuickBooks Time still has the former one
    expires_in(company, left)
    assert get_token(company) not in ("", "a-1")
    assert company.rows("select status from connections") == [("ok",)]


def test_a_refresh_token_that_another_process_replaced_is_read_again(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stored pair changes between reading it and the answer, as with two processes without one lock."""
    from services.shops import tokens

    real_open, reads = tokens._open, []

    def open_stale(*args: Any) -> Any:
        found = real_open(*args)
        reads.append(found)
        return found._replace(refresh="r-0") if len(reads) == 1 else found

    monkeypatch.setattr(tokens, "_open", open_stale)
    expires_in(company, EXPIRED)
    assert get_token(company) not in ("", "a-1")
    assert len(reads) == 2


def test_a_refusal_that_lasts_breaks_the_connection_and_discards_nothing(company: Company) -> None:
    company.control(refresh_token="r-9")
    expires_in(company, EXPIRED)
    with pytest.raises(Misconfigured) as refused:
        get_token(company)
    assert refused.value.code == "quickbooks_time.refresh_refused"
    assert (stored(company, "token"), stored(company, "refresh-token")) == ("a-1", "r-1")
    assert company.rows("select status, resource from connections") == [("broken", "")]


@pytest.mark.parametrize(
    "fault", [{"fail_next": {"status": 503, "count": 9}}, {"html_next": 9}, {"drop_next": 1}]
)
def test_a_transient_fault_discards_no_token(company: Company, fault: dict[str, Any]) -> None:
    company.control(**fault)
    expires_in(company, HALF_WAY)
    assert get_token(company) == "a-1"
    assert stored(company, "refresh-token") == "r-1"
    assert company.rows("select status from connections") == [("ok",)]
