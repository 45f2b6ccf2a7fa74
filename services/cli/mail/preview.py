"""``fleet mail preview``: a kind of mail as its reader will see it, before anybody does."""

from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from services.cli.base import json_option, report_errors
from services.cli.output import print_json, print_table, safe_text
from services.core.clock import utc_now
from services.core.db import transaction
from services.mail.compose import compose
from services.mail.mail_types import MailShop, MailType, MailTypeUnknown, get_mail_type, list_mail_types
from services.mail.message import Mail
from services.shops.shops import get_shop

KIND_MODULES = (
    "services.closing.daily_mail_context",
    "services.closing.digest_context",
    "services.closing.month_mail",
    "services.privacy.mail",
)
"""Modules outside ``services.mail`` that register a kind of mail."""


@dataclass(frozen=True, slots=True)
class MadeUpShop:
    """A shop for looking at mails where no database is at hand."""

    id: int = 0
    slug: str = "harbour"
    name: str = "Harbour Coffee"
    currency: str = "CAD"
    timezone: str = "America/Vancouver"

    @property
    def zone(self) -> ZoneInfo:
        """The zone in which moments are told."""
        return ZoneInfo(self.timezone)


@click.command("preview")
@click.argument("kind", default="")
@click.option(
    "--shop", "slug", default="", help="A shop's slug (default: a made-up shop, no database needed)."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to (default: ./KIND.html)."
)
@click.option(
    "--text", "as_text", is_flag=True, help="Print the plain text instead, with subject and preview."
)
@click.option("--open/--no-open", "is_opened", default=False, help="Open the file in the browser.")
@click.option("--list", "is_list", is_flag=True, help="List the kinds of mail there are.")
@json_option
@report_errors
def preview(
    kind: str, slug: str, out: Path | None, as_text: bool, is_opened: bool, is_list: bool, as_json: bool
) -> None:
    """Write a mail of KIND with sample facts to an HTML file. Nothing is sent.

    \b
    Example: fleet mail preview daily_anomalies --shop harbour
    """
    for module in KIND_MODULES:
        import_module(module)
    if is_list:
        _print_kinds(as_json)
        return
    if not kind:
        raise click.UsageError(f"name a kind of mail: {', '.join(known.name for known in list_mail_types())}")
    mail = _compose_sample(_get_kind(kind), _get_shop(slug), utc_now())
    if as_text and not out:
        print_json(_document(mail, None)) if as_json else click.echo(safe_text(plain_of(mail)), nl=False)
        return
    path = (out or Path(f"{kind}.html")).resolve()
    try:
        path.write_text(plain_of(mail) if as_text else html_of(mail), encoding="utf-8")
    except OSError as fault:
        reason = f"{path} cannot be written: {fault.strerror}. Name another file with --out"
        raise click.ClickException(reason) from fault
    if as_json:
        print_json(_document(mail, path))
    else:
        click.echo(f"Wrote {path}\nSubject: {safe_text(mail.subject)}\nPreview: {safe_text(mail.preview)}")
    if is_opened:
        click.launch(path.as_uri())


def html_of(mail: Mail) -> str:
    """Return the HTML as a browser shows it: pictures that travel with the mail are written into it."""
    html = mail.html
    for part in mail.inline:
        data = f"data:{part.content_type};base64,{b64encode(part.content).decode()}"
        html = html.replace(f"cid:{part.content_id}", data)
    return html


def plain_of(mail: Mail) -> str:
    """Return subject, preview and plain text as one text."""
    return f"Subject: {mail.subject}\nPreview: {mail.preview}\n\n{mail.text}"


def _get_kind(name: str) -> MailType:
    try:
        return get_mail_type(name)
    except MailTypeUnknown as fault:
        raise click.UsageError(str(fault)) from fault


def _get_shop(slug: str) -> MailShop:
    if not slug:
        return MadeUpShop()
    with transaction() as tx:
        return get_shop(tx, slug)


def _compose_sample(kind: MailType, shop: MailShop, now: datetime) -> Mail:
    return compose(
        kind.name,
        kind.sample(shop, now),
        shop=shop,
        recipient="somebody@example.com",
        period="preview",
        images=kind.images(),
        unsubscribe="https://example.com/unsubscribe" if kind.can_unsubscribe else "",
    )


def _print_kinds(as_json: bool) -> None:
    kinds = list_mail_types()
    if as_json:
        names = ("reader", "about", "can_unsubscribe")
        print_json([{"kind": kind.name} | {name: getattr(kind, name) for name in names} for kind in kinds])
        return
    rows = [(kind.name, kind.reader, kind.about, "yes" if kind.can_unsubscribe else "no") for kind in kinds]
    print_table("", ("kind", "for", "about", "unsubscribe"), rows, "")


def _document(mail: Mail, path: Path | None) -> dict[str, object]:
    return {
        "kind": mail.kind,
        "file": str(path) if path else None,
        "subject": mail.subject,
        "preview": mail.preview,
        "text": mail.text,
        "html_bytes": len(mail.html.encode()),
        "inline": [part.name for part in mail.inline],
        "attachments": [part.name for part in mail.attachments],
    }
