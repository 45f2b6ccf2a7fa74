"""``fleet send``: signed sample webhooks, posted to a listening HTTP server."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from sqlalchemy import Engine

from services.cli.samples import SAMPLES
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.fields import read_object
from services.providers.mail_event_payload import EVENT_KINDS, list_sendgrid_events
from services.providers.mail_events import BATCH, read_sendgrid_delivery
from services.providers.openphone import read_openphone_delivery
from services.providers.registry import SENDERS
from services.providers.shopify import read_shopify_delivery
from services.providers.standard_webhooks import read_standard_delivery
from services.providers.stripe import read_stripe_delivery
from services.shops.secrets import list_webhook_keys
from tests.cli.commands import run
from tests.fakes.mail_events import SendGridAccount
from tests.mail.mails import new_mail, queue
from tests.mail.test_mail_events import receive
from tests.shopify.sample_payloads import rows


class Received(ThreadingHTTPServer):
    """HTTP server that stores the posts and returns the next of ``answers``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Received

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append((self.path, headers, body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()
        self.wfile.write(b'{"status":"accepted"}')

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def ingress() -> Iterator[Received]:
    server = Received()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def keys(name: str) -> list[bytes]:
    with transaction() as tx:
        found = next(key for key in list_webhook_keys(tx) if key.name == name)
    return [value.encode() for value in found.values]


def get_webhook_secret(provider: str) -> str:
    return SENDERS[provider].webhook_secret.name


@pytest.mark.parametrize(
    ("provider", "topic"), [(provider, topic) for provider in SAMPLES for topic in SAMPLES[provider]]
)
def test_sent_sample_is_what_its_reader_accepts(
    engine: Engine, harbour: str, ingress: Received, provider: str, topic: str
) -> None:
    name = get_webhook_secret(provider)
    legacy = (
        ("--stdin", "c2VjcmV0IGtleSBvZiBvcGVucGhvbmU=") if provider == "openphone" else ("--generate", None)
    )
    run("shops", "secret", "harbour", name, legacy[0], answer=legacy[1])

    result = run("send", provider, "harbour", "--topic", topic, "--url", ingress.url)

    assert result.exit_code == 0, result.output
    ((path, headers, body),) = ingress.requests
    assert path == f"/webhooks/{provider.replace('quo', 'openphone')}/harbour"
    readers = {"shopify": read_shopify_delivery, "stripe": read_stripe_delivery}
    readers |= {"resend": read_standard_delivery, "sendgrid": read_sendgrid_delivery}
    delivery = readers.get(provider, read_openphone_delivery)(headers, body, keys(name), utc_now())
    # A body of SendGrid has many events, each about another mail.
    is_batch = provider == "sendgrid"
    assert (delivery.topic, delivery.readable) == (BATCH if is_batch else topic, True)
    assert bool(delivery.key) is not is_batch


def test_the_sample_of_the_source_mail_is_a_mail(harbour: str, ingress: Received) -> None:
    refused = run("send", "standard:mail", "harbour", "--url", ingress.url)
    assert "or to try samples make one with --generate" in " ".join(refused.output.split())
    run("shops", "secret", "harbour", "standard-webhook:mail", "--generate")

    assert run("send", "standard:mail", "harbour", "--url", ingress.url).exit_code == 0

    ((path, _, body),) = ingress.requests
    assert path == "/webhooks/standard/harbour/mail"
    assert set(read_object(body)) >= {"id", "from", "to", "subject", "text", "at"}


def test_a_sample_body_of_sendgrid_has_an_event_of_each_kind(harbour: str, ingress: Received) -> None:
    run("shops", "secret", "harbour", "sendgrid-webhook-key", "--generate")

    assert run("send", "sendgrid", "harbour", "--repeat", "2", "--url", ingress.url).exit_code == 0

    first, second = (list_sendgrid_events(body) for *_, body in ingress.requests)
    assert {one.kind for one in first} == set(EVENT_KINDS)
    assert not {one.event_id for one in first} & {one.event_id for one in second}


@pytest.mark.parametrize(("provider", "topic"), [("sendgrid", "bounce"), ("resend", "email.bounced")])
def test_a_sample_about_a_mail_of_the_outbox_marks_it_as_bounced(
    engine: Engine, harbour: str, ingress: Received, provider: str, topic: str
) -> None:
    queue(engine, new_mail(shop_id=1))
    queue(engine, new_mail(2))
    run("shops", "secret", "harbour", get_webhook_secret(provider), "--generate")
    words = ("send", provider, "harbour", "--topic", topic, "--url", ingress.url, "--mail-id")

    sent = run(*words, "1")
    assert sent.exit_code == 0, sent.output
    receive(engine, ingress.requests[0][2], shop_id=1, topic="events" if provider == "sendgrid" else topic)

    mail = json.loads(run("mail", "show", "1", "--json").stdout)
    assert mail["bounced_at"] is not None
    assert rows(engine, "select shop_id, address, mail_id from mail_suppressions") == [
        (1, "owner@example.com", 1)
    ]
    refused = run(*words, "2")
    assert (refused.exit_code, "harbour has no such mail" in " ".join(refused.output.split())) == (2, True)
    run("shops", "secret", "harbour", "shopify-webhook", "--generate")
    other = run("send", "shopify", "harbour", "--mail-id", "1", "--url", ingress.url)
    assert (other.exit_code, "shopify reports nothing about mails" in other.output) == (2, True)


def test_with_a_key_that_sendgrid_alone_has_it_says_how_to_make_one(harbour: str, ingress: Received) -> None:
    run("shops", "secret", "harbour", "sendgrid-webhook-key", "--stdin", answer=SendGridAccount().key)

    result = run("send", "sendgrid", "harbour", "--url", ingress.url)

    assert (result.exit_code, ingress.requests) == (2, [])
    assert "fleet shops secret SHOP sendgrid-webhook-key --generate" in " ".join(result.output.split())


def test_standard_sender_signs_with_its_sources_secret(harbour: str, ingress: Received) -> None:
    run("shops", "secret", "harbour", "standard-webhook:acme", "--generate")

    assert run("send", "standard:acme", "harbour", "--url", ingress.url).exit_code == 0

    ((path, headers, body),) = ingress.requests
    assert path == "/webhooks/standard/harbour/acme"
    secrets = keys("standard-webhook:acme")
    assert read_standard_delivery(headers, body, secrets, utc_now()).readable


def test_repeat_sends_new_deliveries_and_same_sends_one_again(harbour: str, ingress: Received) -> None:
    run("shops", "secret", "harbour", "shopify-webhook", "--generate")

    run("send", "shopify", "harbour", "--repeat", "3", "--url", ingress.url)
    run("send", "shopify", "harbour", "--repeat", "3", "--same", "--url", ingress.url)

    ids = [headers["x-shopify-webhook-id"] for _, headers, _ in ingress.requests]
    assert (len(set(ids[:3])), len(set(ids[3:]))) == (3, 1)


def test_file_is_sent_byte_for_byte(
    harbour: str, ingress: Received, tmp_path_factory: pytest.TempPathFactory
) -> None:
    body = tmp_path_factory.mktemp("send") / "body.json"
    body.write_bytes(b'{ "id": 1 }\n')
    run("shops", "secret", "harbour", "shopify-webhook", "--generate")

    run("send", "shopify", "harbour", "--file", str(body), "--url", ingress.url)

    assert ingress.requests[0][2] == b'{ "id": 1 }\n'


@pytest.mark.parametrize(("body", "is_warned"), [(b'{"id": 1}', False), (b'{"id": ', True), (b"\xff", True)])
def test_file_that_is_no_json_is_sent_with_a_warning(
    harbour: str, ingress: Received, tmp_path: Path, body: bytes, is_warned: bool
) -> None:
    file = tmp_path / "body.json"
    file.write_bytes(body)
    run("shops", "secret", "harbour", "shopify-webhook", "--generate")

    sent = run("send", "shopify", "--shop", "harbour", "--file", str(file), "--json", "--url", ingress.url)

    assert (sent.exit_code, ingress.requests[0][2]) == (0, body)
    assert (f"Warning: {file} is not JSON" in sent.stderr) == is_warned
    assert json.loads(sent.stdout)


def test_response_other_than_2xx_exits_1(harbour: str, ingress: Received) -> None:
    run("shops", "secret", "harbour", "shopify-webhook", "--generate")
    ingress.answers = [200, 503]

    result = run("send", "shopify", "harbour", "--repeat", "2", "--json", "--url", ingress.url)

    assert result.exit_code == 1
    assert [answer["status"] for answer in json.loads(result.stdout)] == [200, 503]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["shopify", "harbour"], 1, "harbour has no shopify-webhook: record it"),
        (["nobody", "harbour"], 2, "'nobody' should be one of shopify, stripe"),
        (["shopify", "nowhere"], 2, "there is no shop 'nowhere'"),
    ],
)
def test_impossible_send_says_why(harbour: str, arguments: list[str], code: int, message: str) -> None:
    result = run("send", *arguments)

    assert result.exit_code == code
    assert message in result.output


def test_a_topic_without_a_sample_names_the_closest_in_one_sentence(harbour: str) -> None:
    run("shops", "secret", "harbour", "stripe-webhook", "--generate")

    result = run("send", "stripe", "harbour", "--topic", "charge.succeded")

    assert result.exit_code == 2
    assert "did you mean 'charge.succeeded'? --file sends a body of any other topic\n" in result.output


def test_unreachable_ingress_is_named(harbour: str) -> None:
    run("shops", "secret", "harbour", "shopify-webhook", "--generate")

    result = run("send", "shopify", "harbour", "--url", "http://127.0.0.1:1")

    assert result.exit_code == 1
    assert "did not answer" in result.output
