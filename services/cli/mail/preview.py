"""``fleet mail preview``: a mail with sample data as its recipient sees it."""

from base64 import b64encode
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import click

from services.accounts.mails import ACCOUNT_MAIL
from services.accounts.notifications import NOTIFICATION_MAIL
from services.cli.base import ReportingCommand, json_option
from services.cli.output import Columns, print_json, print_lines, safe_text
from services.cli.params import OUTPUT_FILE, SHOP, KnownType
from services.closing.daily_mail import DAILY_ANOMALIES_MAIL
from services.closing.digest import OWNER_DIGEST_MAIL
from services.closing.letter_job import OWNER_LETTER_MAIL
from services.closing.month_mail import MONTH_PACKAGE_MAIL
from services.core.clock import utc_now
from services.core.db import transaction
from services.costs.cap import AI_CAP_MAIL
from services.mail.compose import compose_mail
from services.mail.message import Mail
from services.mail.system_mails import SYSTEM_MAILS
from services.outreach.compose import OUTREACH_MAIL, make_sample
from services.outreach.texts import read_texts
from services.privacy.export import PRIVACY_EXPORT_MAIL
from services.shops.shops import Shop, get_shop
from services.timesheets.compose import REPORT_MAIL

MAIL_TYPES = {
    mail_type.name: mail_type
    for mail_type in sorted(
        (
            *SYSTEM_MAILS,
            ACCOUNT_MAIL,
            AI_CAP_MAIL,
            DAILY_ANOMALIES_MAIL,
            OWNER_DIGEST_MAIL,
            OWNER_LETTER_MAIL,
            MONTH_PACKAGE_MAIL,
            NOTIFICATION_MAIL,
            OUTREACH_MAIL,
            PRIVACY_EXPORT_MAIL,
            REPORT_MAIL,
        ),
        key=lambda mail_type: mail_type.name,
    )
}
"""Every type of mail that the fleet writes, by name."""

MAIL_KIND = KnownType("kind", lambda: MAIL_TYPES)

SAMPLE_SHOP = Shop(
    id=0,
    slug="harbour",
    name="Harbour Coffee",
    timezone="America/Vancouver",
    currency="CAD",
    owner_email="",
    accountant_email="",
    shopify_domain="",
    stock_location_id="",
    stock_owner="",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
"""A shop for previews without a database."""


@click.command("preview", cls=ReportingCommand)
@click.argument("kind", type=MAIL_KIND, default="")
@click.option("--shop", type=SHOP, default="", help="A shop's slug (default: a sample shop).")
@click.option("--out", type=OUTPUT_FILE, help="Default: KIND.html in a new temporary folder.")
@click.option("--text", "as_text", is_flag=True, help="The plain text, with subject and preview.")
@click.option("--open/--no-open", "is_opened", default=False, help="Open the file in the browser.")
@click.option("--list", "is_list", is_flag=True, help="List the types of mail.")
@json_option
def preview(
    kind: str, shop: str, out: Path | None, as_text: bool, is_opened: bool, is_list: bool, as_json: bool
) -> None:
    """Write a mail of KIND with sample data to an HTML file. Nothing is sent.

    \b
    Example: fleet mail preview daily_anomalies --shop harbour
    """
    if is_list:
        if as_json:
            names = ("reader", "about", "can_unsubscribe")
            kinds = MAIL_TYPES.values()
            print_json(
                [{"kind": kind.name} | {name: getattr(kind, name) for name in names} for kind in kinds]
            )
            return
        columns: Columns = {"kind": "name", "for": "reader", "about": "about"}
        columns = {**columns, "unsubscribe": lambda kind: "yes" if kind.can_unsubscribe else "no"}
        print_lines("", columns, list(MAIL_TYPES.values()), "")
        return
    mail = _compose_sample(kind, shop)
    if as_text and not out:
        print_json(_document(mail, None)) if as_json else click.echo(safe_text(format_text(mail)), nl=False)
        return
    path = out or Path(mkdtemp(prefix="shopfleet-mail-")) / f"{kind}.html"
    try:
        path.write_text(format_text(mail) if as_text else format_html(mail), encoding="utf-8")
    except OSError as fault:
        reason = f"{path} cannot be written: {fault.strerror}. Choose another file with --out"
        raise click.ClickException(reason) from fault
    if as_json:
        print_json(_document(mail, path))
    else:
        click.echo(f"Wrote {path}\nSubject: {safe_text(mail.subject)}\nPreview: {safe_text(mail.preview)}")
    if is_opened:
        click.launch(path.as_uri())


def format_html(mail: Mail) -> str:
    """Return the HTML as a browser shows it, with the inline images as data URLs."""
    html = mail.html
    for image in mail.inline:
        html = html.replace(
            f"cid:{image.content_id}", f"data:{image.content_type};base64,{b64encode(image.content).decode()}"
        )
    return html


def format_text(mail: Mail) -> str:
    """Return subject, preview and plain text as one text."""
    return f"Subject: {mail.subject}\nPreview: {mail.preview}\n\n{mail.text}"


def _compose_sample(name: str, slug: str) -> Mail:
    if not name:
        raise click.UsageError(f"the type of mail is missing: it should be one of {', '.join(MAIL_TYPES)}")
    mail_type = MAIL_TYPES[name]
    shop, sample = SAMPLE_SHOP, mail_type.sample
    if slug:
        with transaction() as tx:
            shop = get_shop(tx, slug)
            if mail_type is OUTREACH_MAIL:
                sample = partial(make_sample, text=read_texts(tx, shop.id)["reminders", ""])
    return compose_mail(
        mail_type,
        sample(shop, utc_now()),
        shop=shop,
        recipient="somebody@example.com",
        period="preview",
        images=mail_type.images(),
        unsubscribe="https://example.com/unsubscribe" if mail_type.can_unsubscribe else "",
    )


def _document(mail: Mail, path: Path | None) -> dict[str, object]:
    return {
        "kind": mail.kind,
        "file": str(path) if path else None,
        "subject": mail.subject,
        "preview": mail.preview,
        "text": mail.text,
        "html_bytes": len(mail.html.encode()),
        "inline": [image.name for image in mail.inline],
        "attachments": [file.name for file in mail.attachments],
    }
