"""``fleet doctor`` tries mail and the shops' credentials: a fault names the command that corrects it."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from aiosmtpd.smtp import AuthResult
from sqlalchemy import Engine

from services.core.clock import utc_now
from services.core.crypto import get_sealer
from services.core.db import transaction
from services.core.settings import get_settings, read_settings
from services.fleet.doctor_accounts import check_mail, check_shops
from services.fleet.doctor_check import DoctorCheck
from services.shops.secrets import record_secret
from services.shops.shops import set_shop
from tests.fakes.mail_services import Graph, Resend, SendGrid, Service, aadsts
from tests.fakes.settings import settings_of
from tests.fakes.smtp import Sink, smtp_server
from tests.fakes.stripe import StripeApi
from tests.fakes.web import Answer, Web
from tests.jobs.job_rows import add_shops

Account = tuple[dict[str, str], Callable[[], int]]
"""Settings, and the number of mails that arrived."""


def find_mail(**given: str) -> DoctorCheck:
    """Return the finding about the fleet's mail, without a database."""
    base = {"DATABASE_URL": "postgresql://127.0.0.1:1/none", "BROKER_URL": "redis://", "SECRET_KEY": "k" * 40}
    (found,) = check_mail(read_settings(base | given))
    return found


@contextmanager
def smtp(*, accepts: bool) -> Iterator[Account]:
    sink = Sink()
    sign_in = {
        "authenticator": lambda *_: AuthResult(success=accepts, handled=False),
        "auth_require_tls": False,
    }
    with smtp_server(sink, **sign_in) as url:
        yield {"SMTP_URL": url.replace("://", "://user:hunter2@")}, lambda: len(sink.mails)


@contextmanager
def graph(*, accepts: bool) -> Iterator[Account]:
    with serve(service := Graph()) as url:
        service.sign_in_answer = None if accepts else aadsts("7000215")
        settings = {"GRAPH_CLIENT_SECRET": Graph.SECRET, "GRAPH_TENANT_ID": "t", "GRAPH_CLIENT_ID": "c"}
        settings |= {"GRAPH_SENDER": service.mailbox, "GRAPH_API_BASE": url, "GRAPH_LOGIN_BASE": url}
        yield settings, lambda: len(service.mails)


@contextmanager
def sendgrid(*, accepts: bool) -> Iterator[Account]:
    with serve(service := SendGrid()) as url:
        key = SendGrid.KEY if accepts else "SG.wrong"
        yield {"SENDGRID_API_KEY": key, "SENDGRID_API_BASE": url}, lambda: len(service.mails)


@contextmanager
def resend(*, accepts: bool) -> Iterator[Account]:
    with serve(service := Resend()) as url:
        key = Resend.KEY if accepts else "re_wrong"
        yield {"RESEND_API_KEY": key, "RESEND_API_BASE": url}, lambda: len(service.mails)


@contextmanager
def serve(service: Service) -> Iterator[str]:
    with service.serving():
        yield service.url


ACCOUNTS = {"smtp": smtp, "graph": graph, "sendgrid": sendgrid, "resend": resend}
every_account = pytest.mark.parametrize("name", ACCOUNTS)


def open_account(name: str, *, accepts: bool) -> AbstractContextManager[Account]:
    return ACCOUNTS[name](accepts=accepts)


@every_account
def test_an_account_that_signs_us_in_is_right_and_gets_no_mail(name: str) -> None:
    with open_account(name, accepts=True) as (settings, count_mails):
        found = find_mail(MAIL_TRANSPORT=name, **settings)
        assert found.ok, found
        assert found.seen.startswith(f"{name}: ")
        assert count_mails() == 0


@every_account
def test_an_account_that_refuses_us_is_a_fault_with_its_setting(name: str) -> None:
    with open_account(name, accepts=False) as (settings, _):
        found = find_mail(MAIL_TRANSPORT=name, **settings)
    assert not found.ok
    assert found.seen.startswith(f"{name}.")
    assert "set " in found.remedy
    assert not any(secret in found.seen + found.remedy for secret in ("hunter2", "SG.wrong", "re_wrong"))


@pytest.mark.parametrize(
    ("server", "seen", "remedy"),
    [
        (
            "mail.invalid:587",
            "smtp.host_unknown: {} cannot be reached: no server has this name",
            "set SMTP_URL",
        ),
        (
            "127.0.0.1:1",
            "smtp.unavailable: {} cannot be reached: Connection refused",
            "nothing, if it ends soon",
        ),
    ],
)
def test_a_mail_server_that_cannot_be_reached_is_named_with_the_reason_in_words(
    server: str, seen: str, remedy: str
) -> None:
    found = find_mail(MAIL_TRANSPORT="smtp", SMTP_URL=f"smtp://user:hunter2@{server}")

    assert found.seen == seen.format(f"the mail server {server}")
    assert found.remedy.startswith(remedy)


def test_a_key_that_may_only_send_is_right() -> None:
    with serve(service := Resend()) as url:
        service.answers = [(401, {"statusCode": 401, "name": "restricted_api_key"}, {})]
        found = find_mail(MAIL_TRANSPORT="resend", RESEND_API_KEY=Resend.KEY, RESEND_API_BASE=url)
    assert found.ok
    assert "may only send" in found.seen


def test_a_sendgrid_key_without_the_permission_is_a_fault() -> None:
    with serve(service := SendGrid()) as url:
        service.answers = [(200, {"scopes": ["alerts.read"]}, {})]
        found = find_mail(MAIL_TRANSPORT="sendgrid", SENDGRID_API_KEY=SendGrid.KEY, SENDGRID_API_BASE=url)
    assert not found.ok
    assert "mail.send" in found.seen


def test_the_folder_of_mails_is_tried(tmp_path: Path) -> None:
    assert find_mail(MAIL_TRANSPORT="file", MAIL_FOLDER=str(tmp_path / "mail")).ok
    assert list((tmp_path / "mail").iterdir()) == []
    (tmp_path / "taken").touch()
    found = find_mail(MAIL_TRANSPORT="file", MAIL_FOLDER=str(tmp_path / "taken"))
    assert not found.ok
    assert "MAIL_FOLDER" in found.remedy


def find_shops() -> dict[str, DoctorCheck]:
    return {finding.check: finding for finding in check_shops(get_settings())}


def test_each_shops_credential_is_tried_and_recorded(engine: Engine) -> None:
    add_shops(engine, utc_now(), acme="America/Vancouver")
    with StripeApi(key="rk_test_1") as stripe, settings_of(STRIPE_API_BASE=stripe.url):
        stripe.lists["charges"] = []
        record(engine, "rk_test_wrong")
        fault = find_shops()["connection"]
        assert not fault.ok
        assert "stripe of acme is broken" in fault.seen
        assert "fleet shops secret acme stripe-key --stdin" in fault.remedy
        assert "rk_test_wrong" not in fault.seen + fault.remedy

        record(engine, "rk_test_1")
        found = find_shops()
        assert found["connection"].ok
        assert "1 called now" in found["connection"].seen
        assert len(stripe.requests) == 2

    with settings_of(STRIPE_API_BASE="http://127.0.0.1:1"):
        away = find_shops()["stripe-key of acme"]
        assert not away.ok
        assert away.seen.startswith("stripe.unavailable")


def test_twilios_credentials_are_tried_with_a_call_that_changes_nothing(engine: Engine) -> None:
    add_shops(engine, utc_now(), acme="America/Vancouver")
    with transaction(engine) as tx:
        record_secret(tx, 1, "twilio-credentials", f"AC{'a' * 32}:tok3n-tok3n", utc_now())
    with (
        Web(Answer(401), Answer(200, {}, b'{"usage_records": []}')) as web,
        settings_of(TWILIO_API_BASE=web.url),
    ):
        fault = find_shops()["connection"]
        assert "twilio of acme is broken" in fault.seen
        assert fault.remedy.startswith("fleet shops secret acme twilio-credentials --stdin; then ")
        assert "tok3n" not in fault.seen + fault.remedy
        assert find_shops()["connection"].ok
        assert [request.path.partition("?")[0].rpartition("/")[2] for request in web.requests] == [
            "Daily.json"
        ] * 2


def test_a_data_source_that_is_not_shared_with_the_connection_is_named_with_the_remedy(
    engine: Engine,
) -> None:
    add_shops(engine, utc_now(), acme="America/Vancouver")
    data_source = "fda15287-e019-4869-80aa-2a72e8485dd0"
    with transaction(engine) as tx:
        record_secret(tx, 1, "notion-key", "ntn_s3cret", utc_now())
    types = {"Name": "title", "Merchant UUID": "rich_text"}
    whole = json.dumps({"properties": {name: {"type": kind} for name, kind in types.items()}}).encode()
    answers = (Answer(404), Answer(200), Answer(401), Answer(200, {}, whole))
    with Web(*answers) as web, settings_of(NOTION_API_BASE=web.url):
        fault = find_shops()["connection"]
        assert "notion of acme is broken" in fault.seen
        assert "notion.no_data_source" in fault.seen
        assert fault.remedy.startswith("fleet shops set acme --notion-data-source ID; then ")
        with transaction(engine) as tx:
            set_shop(tx, "acme", {"notion_data_source": data_source}, now=utc_now())
        fault = find_shops()["connection"]
        assert "notion.data_source_not_shared" in fault.seen
        assert "add the connection to it under Connections" in fault.remedy
        fault = find_shops()["connection"]
        assert fault.remedy.startswith("add the text property 'Merchant UUID'")
        fault = find_shops()["connection"]
        assert fault.remedy.startswith("fleet shops secret acme notion-key --stdin; then ")
        assert "s3cret" not in fault.seen + fault.remedy
        assert find_shops()["connection"].ok
        assert {request.path for request in web.requests} == {f"/v1/data_sources/{data_source}"}


def test_the_key_of_quo_is_tried_with_a_list_of_phone_numbers(engine: Engine) -> None:
    add_shops(engine, utc_now(), acme="America/Vancouver")
    with transaction(engine) as tx:
        record_secret(tx, 1, "quo-key", "quo-s3cret", utc_now())
    with Web(Answer(401), Answer(200, {}, b'{"data": []}')) as web, settings_of(QUO_API_BASE=web.url):
        fault = find_shops()["connection"]
        assert fault.remedy.startswith("fleet shops secret acme quo-key --stdin; then ")
        assert find_shops()["connection"].ok
        assert {request.path for request in web.requests} == {"/phone-numbers?limit=50"}


def test_a_secret_of_another_key_is_a_fault(engine: Engine) -> None:
    add_shops(engine, utc_now(), acme="America/Vancouver")
    record(engine, "rk_test_1")
    with settings_of(SECRET_KEY="another-key-" + "k" * 32):
        get_sealer.cache_clear()
        found = find_shops()["stripe-key of acme"]
    get_sealer.cache_clear()
    assert not found.ok
    assert "SECRET_KEY_PREVIOUS" in found.remedy


def test_shops_without_a_token_are_named_in_a_note(engine: Engine) -> None:
    slugs = [f"shop-{number}" for number in range(1, 8)]
    add_shops(engine, utc_now(), **dict.fromkeys(slugs, "UTC"))

    found = find_shops()["shops"]

    assert (found.ok, found.is_note) == (True, True)
    names = "shop-1, shop-2, shop-3, shop-4, shop-5, and 2 more shops"
    assert found.seen == f"not connected to Shopify: {names}"
    assert found.remedy == "fleet shops connect shop-1"


def record(engine: Engine, key: str) -> None:
    with transaction(engine) as tx:
        record_secret(tx, 1, "stripe-key", key, utc_now(), by="tests", request_id="r")
