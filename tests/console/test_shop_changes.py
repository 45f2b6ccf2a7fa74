"""Changes on ``/shops/<shop>``: who may make them, what they record, and what is never shown."""

import io
import re
import zipfile
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from services.accounts.roles import Role
from services.alerts.rules import FIGURE_RULES
from services.alerts.thresholds import load_thresholds
from services.closing.month_package import MANIFEST_NAME
from services.console.auth import CHANGE_ROUTES
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.settings import get_settings
from services.providers.object_store import open_store
from services.shops.shops import FIELDS, Shop, get_shop, set_shop
from services.shops.staff import find_staff
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.console.test_access import fill, list_rules

_ADD_MONTH = """
insert into closed_periods (shop_id, period, begins_on, ends_before, closed_at, figures, files, manifest_key,
                            manifest_sha256)
values (:shop_id, '2026-10', '2026-10-01', '2026-11-01', now(), '{}', cast(:files as jsonb), :key, :sha256)
"""


@pytest.fixture
def client(engine: Engine, ids: list[int]) -> FlaskClient:
    return sign_in_as(make_console(engine), Role.ADMIN)


def post(client: FlaskClient, path: str, **values: str) -> TestResponse:
    values["csrf_token"] = read_csrf_token(client)
    return client.post(f"/shops/harbour/{path}", data=values, follow_redirects=True)


def read_shop() -> Shop:
    with transaction() as tx:
        return get_shop(tx, "harbour")


def read_audit() -> list[tuple[str, str, str]]:
    query = "select e.action, e.staff_label, m.summary from audit_events e join audit_mutations m" \
        " on m.event_id = e.id where e.shop_id is not null order by e.id"  # fmt: skip
    with transaction() as tx:
        return [(row.action, row.staff_label, row.summary) for row in tx.execute(text(query))]


def test_a_field_that_the_person_changed_is_set_and_others_keep_a_change_of_somebody_else(
    client: FlaskClient,
) -> None:
    shown = {f"was_{field}": getattr(read_shop(), field) for field in FIELDS}
    with transaction() as tx:
        set_shop(tx, "harbour", {"owner_email": "eve@example.com"}, now=utc_now())
    values = {field: shown[f"was_{field}"] for field in FIELDS} | {"name": "Harbour & Sons"}

    page = post(client, "settings", **shown, **values).text

    assert "Changed: name." in page
    assert read_shop().name == "Harbour & Sons"
    assert read_shop().owner_email == "eve@example.com"
    assert read_audit()[-1] == ("shop.set", "admin@example.com", "set name of harbour")


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("timezone", "Mars/Base", "IANA name"),
        ("currency", "dollars", "ISO 4217"),
        ("ai_cap", "0 CAD", "zero is refused"),
        ("exchange_rates", "USD/CAD=1.37", "a limit to count against"),
        ("name", "\0", "printable"),
    ],
)
def test_a_wrong_field_is_refused_as_by_the_command(
    client: FlaskClient, field: str, value: str, fault: str
) -> None:
    before = read_shop()

    assert fault in post(client, "settings", **{field: value, f"was_{field}": getattr(before, field)}).text
    assert read_shop() == before
    assert read_audit() == []


def test_a_rate_that_is_deleted_from_the_text_is_removed(client: FlaskClient) -> None:
    post(client, "settings", ai_cap="50.00 CAD", exchange_rates="USD/CAD=1.37, EUR/CAD=1.5",
         was_exchange_rates="")  # fmt: skip
    post(client, "settings", exchange_rates="EUR/CAD=1.6", was_exchange_rates=read_shop().exchange_rates)

    assert (read_shop().ai_cap, read_shop().exchange_rates) == ("50.00 CAD", "EUR/CAD=1.6")


def test_staff_get_and_lose_a_name(client: FlaskClient) -> None:
    assert "Dana" in post(client, "staff", number="4711", name="Dana").text
    with transaction() as tx:
        assert find_staff(tx, "harbour") == {"4711": "Dana"}
    assert "Dana" not in post(client, "staff", number="4711").text
    assert "digits only" in post(client, "staff", number="x", name="Dana").text
    assert read_audit() == [("shop.staff", "admin@example.com", "named staff 4711 of harbour")] * 2


def find_own_threshold(shop_id: int) -> float | None:
    with transaction() as tx:
        return load_thresholds(tx).get(("sms_over_budget", shop_id))


def test_a_threshold_of_the_shop_is_set_and_removed_as_by_the_command(
    client: FlaskClient, ids: list[int]
) -> None:
    assert "0 of " in client.get("/shops/harbour").text
    page = post(client, "thresholds", rule="sms_over_budget", threshold="200", reason="a sale").text

    assert "The threshold of sms_over_budget was 150 and is 200 % of" in page
    assert re.search(r"sms_over_budget<.*?>200</td><td>% of.*?<td>this shop<", page, re.DOTALL)
    assert [find_own_threshold(shop_id) for shop_id in ids] == [200, None]

    post(client, "thresholds", rule="sms_over_budget", threshold="", reason="the sale is over")

    unit = FIGURE_RULES["sms_over_budget"].unit
    assert find_own_threshold(ids[0]) is None
    assert read_audit() == [
        ("rule.set", "admin@example.com", f"set the threshold of sms_over_budget to 200 {unit}: a sale"),
        ("rule.unset", "admin@example.com", "unset the threshold 200 of sms_over_budget: the sale is over"),
    ]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"threshold": "many"}, "should be a number"),
        ({"threshold": "nan"}, "threshold=nan should be from"),
        ({"threshold": "-1"}, "threshold=-1 should be from"),
        ({"threshold": "200", "reason": " "}, "reason is empty"),
        ({"threshold": "200", "reason": "x" * 100_000}, "reason should have at most"),
        ({"threshold": ""}, "no threshold of sms_over_budget is set here"),
        ({"threshold": "200", "rule": "no_such_rule\0"}, "rule should be one of"),
        ({"threshold": "200", "rule": "heartbeat_old"}, "belong to no shop"),
    ],
)
def test_a_wrong_threshold_is_refused(
    client: FlaskClient, ids: list[int], values: dict[str, str], fault: str
) -> None:
    page = post(client, "thresholds", **{"rule": "sms_over_budget", "reason": "a sale"} | values)

    assert fault in page.text
    assert find_own_threshold(ids[0]) is None
    assert read_audit() == []


def add_month(shop_id: int, **files: bytes) -> str:
    """Store a closed month with ``files``; return its folder."""
    manifest, folder = b"{}", f"close/shop-{shop_id}/2026-10/abc/"
    for name, data in {**files, MANIFEST_NAME: manifest}.items():
        open_store(get_settings().archive_url).put(folder + name, data)
    listed = [
        {"name": name, "sha256": sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()
    ]
    values = {"files": orjson.dumps(listed).decode(), "sha256": sha256(manifest).hexdigest()}
    with transaction() as tx:
        tx.execute(text(_ADD_MONTH), {"shop_id": shop_id, "key": folder + MANIFEST_NAME, **values})
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARCHIVE_URL", f"file://{tmp_path}/archive")
    get_settings.cache_clear()
    return tmp_path / "archive"


def test_the_package_of_a_closed_month_is_downloaded_and_audited(
    store: Path, client: FlaskClient, ids: list[int]
) -> None:
    add_month(ids[0], **{"orders.csv": b"a,b", "profit.pdf": b"%PDF"})

    answer = post(client, "months/2026-10")

    archive = zipfile.ZipFile(io.BytesIO(answer.data))
    assert archive.read("orders.csv") == b"a,b"
    assert set(archive.namelist()) == {"orders.csv", "profit.pdf", MANIFEST_NAME}
    assert answer.headers["Content-Disposition"] == "attachment; filename=harbour-2026-10.zip"
    assert read_audit() == [
        ("month.download", "admin@example.com", "downloaded the package of 2026-10"),
    ]
    assert [post(client, f"months/{period}").status_code for period in ("2026-09", "%00", "..")] == [404] * 3


@pytest.mark.parametrize("fault", ["altered", "missing"])
def test_a_package_that_is_not_as_it_was_closed_is_not_sent(
    store: Path, client: FlaskClient, ids: list[int], fault: str
) -> None:
    file = store / add_month(ids[0], **{"orders.csv": b"a,b"}) / "orders.csv"
    file.chmod(0o600)
    file.unlink() if fault == "missing" else file.write_bytes(b"a,c")

    answer = post(client, "months/2026-10")

    assert 'class="notice bad"' in answer.text
    assert "PK" not in answer.text
    assert read_audit() == []


def test_only_an_admin_of_the_shop_changes_it(engine: Engine, ids: list[int]) -> None:
    operator = sign_in_as(
        make_console(engine), Role.ADMIN, email="o@example.com",
        shops={ids[0]: Role.OPERATOR, ids[1]: Role.ADMIN},
    )  # fmt: skip
    stranger = sign_in_as(make_console(engine), Role.ADMIN, email="s@example.com", shops={ids[1]: Role.OWNER})
    rules = [rule for rule in list_rules(operator) if rule.endpoint.startswith("shop_changes.")]
    assert len(rules) == 5
    assert {CHANGE_ROUTES[rule.endpoint] for rule in rules} == {Role.ADMIN}

    for client, status in ((operator, 403), (stranger, 404)):
        token = read_csrf_token(client)
        for rule in rules:
            values = {"csrf_token": token, "name": "x", "number": "1", "value": "whsec_" + "a" * 32}
            assert client.post(fill(rule), data=values).status_code == status, rule.rule
    assert "<form" not in operator.get("/shops/harbour").text.partition("<main")[2]
    assert read_audit() == []
