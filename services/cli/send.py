"""``fleet send``: post a sample webhook, signed with the shop's secret as its provider signs it."""

import json
import random
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import click
import httpx
from sqlalchemy import Connection

from services.cli.base import ReportingCommand, json_option, one_shop_option
from services.cli.output import print_json, print_table
from services.cli.params import INPUT_FILE, MAIL, ParsedType
from services.cli.samples import DOMAIN, SAMPLES, SampleMail, make_sample
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import InputInvalid, ShopfleetError, describe_unknown
from services.core.settings import get_settings
from services.mail.outbox import KEY_PREFIX
from services.providers.provider import Provider
from services.providers.registry import SENDERS, get_secret_kind, list_routes, sign
from services.shops.secrets import get_secret
from services.shops.shops import Shop, get_shop

_FIND_MAIL = "select id, recipient, token from mail_outbox where id = %(id)s and shop_id = %(shop_id)s"


class SampleSender(NamedTuple):
    """The sender of sample webhooks: its provider, route, and the name of the secret that signs them."""

    name: str
    provider: Provider
    path: str
    secret_name: str


def find_sender(name: str, slug: str) -> SampleSender:
    """Return the sender called ``name``; raise ``InputInvalid`` with the names that exist."""
    sender, _, source = name.partition(":")
    provider = SENDERS.get(sender)
    if provider is None or provider.has_sources != bool(source):
        raise InputInvalid(describe_unknown(name, list_routes(SENDERS)))
    path, secret_name = f"/webhooks/{provider.name}/{slug}", provider.webhook_secret.name
    if source:
        path, secret_name = f"{path}/{source}", get_secret_kind(f"{secret_name}:{source}").name
    return SampleSender(sender, provider, path, secret_name)


def _check_sender(name: str) -> str:
    find_sender(name, "")
    return name


def _can_generate(secret_name: str) -> bool:
    return get_secret_kind(secret_name).make_value is not None


def _parse_url(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise InputInvalid(f"{text!r} should be an address such as http://127.0.0.1:8000")
    return text


URL = ParsedType("url", _parse_url)


@click.command(cls=ReportingCommand, shop_position=1)
@click.argument("provider", type=ParsedType("provider", _check_sender))
@one_shop_option
@click.option("--topic", default="", help="The provider's topic, such as orders/create or charge.refunded.")
@click.option(
    "--mail-id", type=MAIL, help="The mail of the outbox that the event is about (resend, sendgrid)."
)
@click.option("--file", "file", type=INPUT_FILE, help="Send these bytes; - reads standard input.")
@click.option("--url", type=URL, default="", help="Where ingress listens (default: this fleet's).")
@click.option("--repeat", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many.")
@click.option("--same", is_flag=True, help="Repeat one delivery, like a provider's retry.")
@json_option
def command(
    provider: str,
    shop: str,
    topic: str,
    mail_id: int | None,
    file: Path | None,
    url: str,
    repeat: int,
    same: bool,
    as_json: bool,
) -> None:
    """Sign a sample webhook and post it. Exit code 1 unless every answer is 2xx.

    PROVIDER is shopify, stripe, openphone, quo, resend, sendgrid, or standard:<source>.

    \b
    Example: fleet send shopify --shop harbour --topic orders/create --repeat 5
    """
    sender = find_sender(provider, shop)
    with transaction() as tx:
        stored = get_shop(tx, shop)
        secret = get_secret(tx, stored.id, sender.secret_name)
        about = _find_mail(tx, sender.name, stored, mail_id) if mail_id else None
    if secret is None:
        own = ", or to try samples make one with --generate" if _can_generate(sender.secret_name) else ""
        raise ShopfleetError(
            f"{shop} has no {sender.secret_name}: record it with "
            f"`fleet shops secret {shop} {sender.secret_name} --stdin`{own}"
        )
    name = sender.provider.find_sender(sender.name, secret).name
    kind = provider if sender.provider.has_sources else name
    topic = topic or next(iter(SAMPLES.get(name, {"sample.sent": None})))
    target = (url or get_ingress_url()).rstrip("/") + sender.path
    domain = stored.shopify_domain or f"{shop}.myshopify.com"
    answers: list[tuple[int, str]] = []
    given = click.open_file(str(file), "rb").read() if file else b""
    if file:
        _warn_unless_json(given, file)
    body, webhook_id = b"", ""
    with httpx.Client(timeout=10) as http:
        for number in range(repeat):
            now = utc_now()
            if not (same and number):
                body = given if file else _make_body(kind, topic, stored, now, about)
                webhook_id = str(uuid4())
            headers = sign(name, body, secret, topic=topic, webhook_id=webhook_id, domain=domain, now=now)
            try:
                answer = http.post(target, content=body, headers=headers)
            except httpx.HTTPError as fault:
                raise ShopfleetError(
                    f"{target} did not answer ({type(fault).__name__}): is ingress up? See `fleet doctor`"
                ) from fault
            answers.append((answer.status_code, answer.text.strip()))
    _print_answers(answers, as_json=as_json)
    if any(not 200 <= status < 300 for status, _ in answers):
        raise click.exceptions.Exit(1)


def _find_mail(tx: Connection, sender: str, shop: Shop, mail_id: int) -> SampleMail:
    if sender not in ("resend", "sendgrid"):
        raise InputInvalid(f"mail_id={mail_id}: {sender} reports nothing about mails")
    row = tx.exec_driver_sql(_FIND_MAIL, {"id": mail_id, "shop_id": shop.id}).first()
    if row is None:
        raise InputInvalid(
            f"mail_id={mail_id}: {shop.slug} has no such mail, see `fleet mail list --shop {shop.slug}`"
        )
    return SampleMail(row.id, row.recipient, KEY_PREFIX + row.token)


def _make_body(name: str, topic: str, shop: Shop, now: datetime, mail: SampleMail | None) -> bytes:
    body = make_sample(name, topic, shop.currency, random.SystemRandom(), now, mail)
    if body is None:
        fault = f"topic={describe_unknown(topic, SAMPLES[name])}"
        end = "" if fault.endswith("?") else "."
        raise InputInvalid(f"{fault}{end} --file sends a body of any other topic")
    return body.replace(DOMAIN.encode(), (shop.shopify_domain or DOMAIN).encode())


def _warn_unless_json(body: bytes, file: Path) -> None:
    """Print to stderr where ``body`` is no JSON: it is sent, because ingress keeps any signed body."""
    try:
        json.loads(body)
    except ValueError as fault:  # also of a body that is not UTF-8
        text = f"{file} is not JSON ({fault}): its event will be dead with the code unreadable"
        click.echo(f"Warning: {text}", err=True)


def get_ingress_url() -> str:
    settings = get_settings()
    host = "127.0.0.1" if settings.bind_address in ("0.0.0.0", "::") else settings.bind_address  # noqa: S104
    return f"http://{host}:{settings.ingress_port}"


def _print_answers(answers: list[tuple[int, str]], *, as_json: bool) -> None:
    if as_json:
        print_json([{"status": status, "answer": text} for status, text in answers])
        return
    shown = answers[:20]
    print_table("", ("status", "answer"), shown, "Nothing was sent.")
    if len(answers) > len(shown):
        counts = Counter(status for status, _ in answers)
        summary = ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()))
        click.echo(f"The first {len(shown)} of {len(answers)}: {summary}.")
