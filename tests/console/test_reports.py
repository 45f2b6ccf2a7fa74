"""``/reports`` and the connection to QuickBooks Time."""

from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from flask.testing import FlaskClient

from services.accounts.roles import Role
from services.core.db import transaction
from services.shops.secrets import get_secret
from tests.console.people import make_console, read_csrf_token, sign_in_as
from tests.timesheets.company import DUE, MAILS, RUNS, Company
from tests.timesheets.conftest import company as company  # noqa: PLC0414 - the fixture

FORM = {
    "name": "Payroll", "kind": "payroll", "schedule": "0 6 * * 1", "covers": "week", "overtime": "CA-BC",
    "recipients": "pay@harbour.example", "formats": "csv", "week_begins": "sunday", "day_begins": "0",
}  # fmt: skip


@pytest.fixture
def admin(company: Company) -> FlaskClient:
    return sign_in_as(make_console(company.engine), Role.ADMIN)


def post(client: FlaskClient, path: str, **form: str) -> str:
    """Send a form; return the page that opens."""
    form["csrf_token"] = read_csrf_token(client)
    return unescape(client.post(path, data=form, follow_redirects=True).text)


def begin(client: FlaskClient) -> tuple[str, dict[str, list[str]]]:
    """Begin to connect; return the address at QuickBooks Time and its fields."""
    page = post(client, "/shops/harbour/quickbooks-time")
    url = page.partition('class="button" href="')[2].partition('"')[0]
    return url, parse_qs(urlsplit(url).query)


def come_back(client: FlaskClient, url: str) -> dict[str, str]:
    """Allow the app at the sandbox; return the fields with which the browser comes back."""
    answer = httpx.get(url)
    assert answer.status_code == 302
    return {name: one for name, (one,) in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def test_a_company_is_connected_by_the_form_that_opens_on_the_way_back(
    company: Company, admin: FlaskClient
) -> None:
    url, fields = begin(admin)
    assert fields["client_id"] == ["app-harbour"]
    assert fields["redirect_uri"][0].endswith("/oauth/quickbooks-time/callback")
    given = come_back(admin, url)
    page = admin.get("/oauth/quickbooks-time/callback", query_string=given).text
    assert "allows Shopfleet to read the hours of Harbour Bikes" in page
    with transaction(company.engine) as tx:
        assert get_secret(tx, company.shop.id, "quickbooks-time-token") == "a-1", "GET changes nothing"

    assert "QuickBooks Time is connected" in post(admin, "/oauth/quickbooks-time/callback", **given)
    with transaction(company.engine) as tx:
        assert get_secret(tx, company.shop.id, "quickbooks-time-token") not in ("", "a-1", None)
    actions = "select action, staff_label from audit_events where action = 'shop.connect'"
    assert company.rows(actions) == [("shop.connect", "admin@example.com")]

    again = post(admin, "/oauth/quickbooks-time/callback", **given)
    assert "this browser began" in again, "a state is used once"


def test_a_state_of_another_browser_is_refused(company: Company, admin: FlaskClient) -> None:
    url, _ = begin(admin)
    other = sign_in_as(make_console(company.engine), Role.ADMIN, email="eve@example.com")
    given = come_back(admin, url)
    for client, wrong in ((other, given), (admin, given | {"state": "x"}), (admin, given | {"state": ""})):
        page = client.get("/oauth/quickbooks-time/callback", query_string=wrong)
        assert (page.status_code, "begin again" in page.text) == (422, True)
        assert "begin again" in post(client, "/oauth/quickbooks-time/callback", **wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"error": "access_denied"}, "access_denied"), ({"code": ""}, "has no code")],
)
def test_a_refusal_at_quickbooks_time_is_named(
    company: Company, admin: FlaskClient, changes: dict[str, str], message: str
) -> None:
    url, _ = begin(admin)
    page = admin.get("/oauth/quickbooks-time/callback", query_string=come_back(admin, url) | changes)
    assert (page.status_code, message in page.text) == (422, True)


def test_a_refused_code_stores_nothing_and_names_the_error(company: Company, admin: FlaskClient) -> None:
    url, _ = begin(admin)
    given = come_back(admin, url)
    page = post(admin, "/oauth/quickbooks-time/callback", **given | {"code": "wrong"})
    assert "quickbooks_time.refresh_refused" in page
    with transaction(company.engine) as tx:
        assert get_secret(tx, company.shop.id, "quickbooks-time-token") == "a-1"


def test_a_report_is_added_previewed_sent_once_and_paused(company: Company, admin: FlaskClient) -> None:
    page = post(admin, "/shops/harbour/reports", **FORM)
    assert "Payroll is added: At 06:00 on Monday" in page
    preview = post(admin, "/reports/1/preview", period="2026-W47")
    assert "Dana Ruiz" in preview
    assert "British Columbia: overtime over 8 h a day" in preview
    assert company.rows(MAILS) == company.rows(RUNS) == []

    assert "is sent by the workers" in post(admin, "/reports/1/send", period="2026-W47")
    company.send()
    company.follow(DUE)
    assert "is sent already: it does not go again" in post(admin, "/reports/1/send", period="2026-W47")
    assert company.rows(MAILS) == [("pay@harbour.example", "sent")]
    assert "is paused" in post(admin, "/reports/1/pause")
    shown = admin.get("/reports").text
    assert "paused" in shown
    assert "2026-W47" in shown
    assert 'href="/reports/1"' in admin.get("/shops/harbour").text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "x"}, "schedule='x'"), ({"recipients": "ada"}, "should be an address"),
        ({"covers": "year"}, "covers='year'"), ({"day_begins": "99"}, "day_begins=99"),
        ({"kind": ""}, "kind=''"), ({"overtime": "CA-XX"}, "overtime='CA-XX'"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(
    company: Company, admin: FlaskClient, changes: dict[str, str], message: str
) -> None:
    assert message in post(admin, "/shops/harbour/reports", **FORM | changes)
    assert company.rows("select * from reports") == []


def test_a_broken_connection_is_named_in_the_preview(company: Company, admin: FlaskClient) -> None:
    post(admin, "/shops/harbour/reports", **FORM)
    company.control(revoke=True)
    assert "quickbooks_time.refresh_refused" in post(admin, "/reports/1/preview", period="2026-W47")
    assert "refresh_refused" in admin.get("/shops/harbour").text


def test_a_person_of_another_shop_sees_and_changes_no_report(company: Company, admin: FlaskClient) -> None:
    post(admin, "/shops/harbour/reports", **FORM)
    other = sign_in_as(
        make_console(company.engine), Role.OWNER, email="eve@example.com", shops={99: Role.OWNER}
    )
    token = {"csrf_token": read_csrf_token(other)}
    assert "Payroll" not in other.get("/reports").text
    assert other.get("/reports/1").status_code == 404
    for path in ("/reports/1/send", "/reports/1/preview", "/reports/1/pause", "/shops/harbour/reports"):
        assert other.post(path, data=token).status_code == 404
    assert other.post("/shops/harbour/quickbooks-time", data=token).status_code == 404
