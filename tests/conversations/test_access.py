"""A shop's access to Notion and Quo: complete, absent, or an error that names the missing half."""

import pytest
from sqlalchemy import Engine

from services.conversations.access import find_notion_access, find_quo_key
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.shops.secrets import record_secret
from services.shops.shops import ShopInvalid, set_shop
from tests.jobs.job_rows import add_shops

DATA_SOURCE = "fda15287e019486980aa2a72e8485dd0"


@pytest.fixture(autouse=True)
def acme(engine: Engine) -> None:
    add_shops(engine, utc_now(), acme="America/Vancouver")


def test_a_shop_without_notion_and_quo_has_no_access(engine: Engine) -> None:
    with transaction(engine) as tx:
        assert find_notion_access(tx, 1) is None
        assert find_quo_key(tx, 1) == ""


def test_a_key_and_a_data_source_are_the_access_and_the_key_is_not_shown(engine: Engine) -> None:
    with transaction(engine) as tx:
        record_secret(tx, 1, "notion-key", "ntn_s3cret", utc_now())
        record_secret(tx, 1, "quo-key", "quo-1", utc_now())
        set_shop(tx, "acme", {"notion_data_source": DATA_SOURCE}, now=utc_now())
        found = find_notion_access(tx, 1)
        assert found == ("ntn_s3cret", DATA_SOURCE)
        assert "s3cret" not in repr(found)
        assert find_quo_key(tx, 1) == "quo-1"


def test_half_of_the_access_names_the_command_for_the_other_half(engine: Engine) -> None:
    with transaction(engine) as tx:
        set_shop(tx, "acme", {"notion_data_source": DATA_SOURCE}, now=utc_now())
        with pytest.raises(Misconfigured, match="fleet shops secret acme notion-key --stdin"):
            find_notion_access(tx, 1)
        set_shop(tx, "acme", {"notion_data_source": ""}, now=utc_now())
        record_secret(tx, 1, "notion-key", "ntn_1", utc_now())
        with pytest.raises(Misconfigured, match="fleet shops set acme --notion-data-source ID"):
            find_notion_access(tx, 1)


def test_a_data_source_of_another_form_is_refused(engine: Engine) -> None:
    address = "https://www.notion.so/acme/Merchants-fda15287e019486980aa2a72e8485dd0"
    with transaction(engine) as tx, pytest.raises(ShopInvalid, match="32 hexadecimal digits"):
        set_shop(tx, "acme", {"notion_data_source": address}, now=utc_now())
