"""``fleet send``: post a sample webhook, signed with the shop's secret as its provider signs it."""

import random
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import click
import httpx

from services.cli.base import json_option, report_errors
from services.cli.output import print_json, print_table
from services.cli.samples import DOMAIN, SAMPLES, make_sample
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import ShopfleetError
from services.core.settings import get_settings
from services.providers.provider import Provider
from services.providers.registry import SENDERS, get_secret_kind, sign
from services.shops.secrets import get_secret
from services.shops.shops import Shop, get_shop


class SampleSender(NamedTuple):
    """The sender of sample webhooks: its provider, route, and the name of the secret that signs them."""

    name: str
    provider: Provider
    path: str
    secret_name: str


@click.command()
@click.argument("provider")
@click.argument("shop_slug", metavar="SHOP")
@click.option("--topic", default="", help="The provider's topic, such as orders/create or charge.refunded.")
@click.option(
    "--file", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Send these bytes."
)
@click.option("--url", default="", help="Where ingress listens (default: this fleet's).")
@click.option("--repeat", type=click.IntRange(1, 10_000), default=1, show_default=True, help="How many.")
@click.option("--same", is_flag=True, help="Repeat one delivery, like a provider's retry.")
@json_option
@report_errors
def command(
    provider: str,
    shop_slug: str,
    topic: str,
    file: Path | None,
    url: str,
    repeat: int,
    same: bool,
    as_json: bool,
) -> None:
    """Sign a sample webhook and post it. Exit code 1 unless every answer is 2xx.

    PROVIDER is shopify, stripe, openphone, quo, or standard:<source>.

    \b
    Example: fleet send shopify harbour --topic orders/create --repeat 5
    """
    sender = find_sender(provider, shop_slug)
    with transaction() as tx:
        shop = get_shop(tx, shop_slug)
        secret = get_secret(tx, shop.id, sender.secret_name)
    if secret is None:
        raise ShopfleetError(
            f"{shop.slug} has no {sender.secret_name}: record it with "
            f"`fleet shops secret {shop.slug} {sender.secret_name} --stdin`"
        )
    name = sender.provider.find_sender(sender.name, secret).name
    topic = topic or next(iter(SAMPLES.get(name, {"sample.sent": None})))
    target = (url or _ingress_url()).rstrip("/") + sender.path
    domain = shop.shopify_domain or f"{shop.slug}.myshopify.com"
    answers: list[tuple[int, str]] = []
    body, webhook_id = b"", ""
    with httpx.Client(timeout=10) as http:
        for number in range(repeat):
            now = utc_now()
            if not (same and number):
                body = file.read_bytes() if file else _make_body(name, topic, shop, now)
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


def find_sender(name: str, slug: str) -> SampleSender:
    """Return the sender called ``name``; raise ``UsageError`` with the names that exist."""
    name, _, source = name.partition(":")
    provider = SENDERS.get(name)
    if provider is None or provider.has_sources != bool(source):
        names = [f"{known}:<source>" if SENDERS[known].has_sources else known for known in SENDERS]
        raise click.UsageError(f"provider {name!r} should be {', '.join(names)}")
    path, secret_name = f"/webhooks/{provider.name}/{slug}", provider.webhook_secret.name
    if source:
        path, secret_name = f"{path}/{source}", get_secret_kind(f"{secret_name}:{source}").name
    return SampleSender(name, provider, path, secret_name)


def _make_body(name: str, topic: str, shop: Shop, now: datetime) -> bytes:
    body = make_sample(name, topic, shop.currency, random.SystemRandom(), now)
    if body is None:
        known = ", ".join(SAMPLES[name])
        raise click.UsageError(f"there is no sample of topic {topic!r}: use --file, or one of {known}")
    return body.replace(DOMAIN.encode(), (shop.shopify_domain or DOMAIN).encode())


def _ingress_url() -> str:
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
