"""One record describes a provider to the ingress, the ledger and the commands."""

import ast
import hmac
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.cli.send import find_sender
from services.ingress.webhooks import find_route
from services.ledger.topics import TOPICS, plan_topic
from services.providers import registry
from services.providers.delivery import WebhookDelivery
from services.providers.provider import Provider, SecretInvalid, SecretKind, WebhookSender
from services.providers.registry import PROVIDERS, SENDERS, get_secret_kind, sign

SERVICES = Path(__file__).parents[2] / "services"
NOW = datetime(2026, 11, 20, 20, 0, tzinfo=UTC)
NAMES = {provider.name for provider in PROVIDERS} | set(SENDERS)


def strings(path: Path) -> set[str]:
    """Return the string literals of a module, docstrings left out."""
    tree = ast.parse(path.read_text())
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {node.value for node in constants if isinstance(node.value, str) and id(node) not in texts}


def test_names_of_providers_secrets_and_senders_are_unique() -> None:
    kinds = [kind.name for provider in PROVIDERS for kind in provider.secrets]
    senders = [sender.name for provider in PROVIDERS for sender in provider.senders]

    assert len({provider.name for provider in PROVIDERS}) == len(PROVIDERS)
    assert len(set(kinds)) == len(kinds)
    assert len(set(senders)) == len(senders)


@pytest.mark.parametrize("path", sorted((SERVICES / "ledger").glob("*.py")), ids=lambda path: path.name)
def test_the_ledger_names_no_provider(path: Path) -> None:
    named = {text for text in strings(path) - set(TOPICS) if any(name in text.split() for name in NAMES)}
    assert named == set()


@pytest.mark.parametrize("room", ["ingress", "shops"])
def test_the_ingress_and_the_shops_name_no_provider_with_its_own_sender(room: str) -> None:
    """The exceptions in ``shops`` are about Shopify's stock and tokens."""
    for path in (SERVICES / room).glob("*.py"):
        assert strings(path) & (NAMES - {"shopify"} - {"smtp", "graph", "sendgrid", "resend"}) == set(), path


@pytest.mark.parametrize("sender", SENDERS)
def test_each_provider_reads_what_its_senders_sign(sender: str) -> None:
    provider = SENDERS[sender]
    assert provider.read is not None
    secret = provider.webhook_secret.generate()
    body = b'{"id": "e-1", "type": "call.completed"}'
    body = b"[%s]" % body if sender == "sendgrid" else body

    headers = sign(sender, body, secret, topic="orders/create", webhook_id="w-1", domain="x", now=NOW)
    lower = {name.lower(): value for name, value in headers.items()}

    assert provider.read(lower, body, [secret.encode()], NOW).readable


@pytest.mark.parametrize("topic", [(p.name, t) for p in PROVIDERS for _, t in p.topics], ids=str)
def test_each_topic_of_a_record_is_a_topic_of_the_ledger(topic: tuple[str, str]) -> None:
    assert topic[1] in TOPICS


def test_a_new_record_is_enough_for_route_work_secret_and_sender(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(headers: object, body: bytes, secrets: object, now: datetime) -> WebhookDelivery:
        return WebhookDelivery(topic="sale", delivery_key="1", headers={}, occurred_at=now)

    def sign_till(body: bytes, key: bytes, **_: object) -> dict[str, str]:
        return {"till-signature": hmac.digest(key, body, "sha256").hex()}

    till = Provider(
        name="till",
        secrets=(SecretKind(name="till-webhook", description="the till's secret", is_webhook=True),),
        read=read,
        senders=(WebhookSender(name="till", sign=sign_till),),
        topics=(("sale*", "order_ingest"),),
    )
    monkeypatch.setitem(registry._BY_NAME, "till", till)
    monkeypatch.setattr(registry, "SECRET_KINDS", {"till-webhook": till.webhook_secret})
    monkeypatch.setattr("services.ingress.webhooks.WEBHOOK_PROVIDERS", {"till": till})
    monkeypatch.setattr("services.cli.send.SENDERS", {"till": till})

    route, planned = find_route("/webhooks/till/harbour"), plan_topic("till", "sale.made")
    assert route
    assert (route.secret_name, route.read) == ("till-webhook", read)
    assert planned
    assert planned.name == "order_ingest"
    assert find_sender("till", "harbour").path == "/webhooks/till/harbour"
    assert get_secret_kind("till-webhook").parse(" s ") == "s"
    with pytest.raises(SecretInvalid, match="issued by the provider"):
        get_secret_kind("till-webhook").generate()
