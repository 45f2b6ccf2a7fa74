"""The mail with a month's package, once to the owner and once to the accountant."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.closing.corrections import ClosedMonth, Correction, list_closed_months, list_corrections
from services.closing.month_package import MANIFEST_NAME
from services.closing.profit_and_loss import format_account, format_month, format_tax, sum_statement, sum_tax
from services.closing.profit_pdf import PDF_NAME
from services.closing.totals import UNREAD_DAYS
from services.jobs.handler import JobRun
from services.ledger.accept import record_work
from services.mail.compose import compose_mail
from services.mail.formatting import change, money
from services.mail.message import Attachment, MailType
from services.mail.outbox import record_mails
from services.shops.shops import Shop, get_shop_by_id

LARGEST_ATTACHED = 7 * 1024 * 1024
"""Bytes of all attachments together: 10 MB when encoded. Every mail server accepts this."""

MAX_SHOWN = 12
"""Corrections in the mail; all are in the statement."""

_TYPES = {"csv": "text/csv", "pdf": "application/pdf", "json": "application/json"}

_FIND_MAILED = """
select lower(recipient) from mail_outbox
 where shop_id = %(shop_id)s and kind = %(kind)s and period = %(period)s
"""


def list_unmailed_recipients(tx: Connection, shop: Shop, period: str) -> list[str]:
    """Return the recipients without a mail about the package of ``period``."""
    values = {"shop_id": shop.id, "kind": MONTH_PACKAGE_MAIL.name, "period": period}
    mailed = set(tx.exec_driver_sql(_FIND_MAILED, values).scalars())
    wanted = {address.lower(): address for address in (shop.accountant_email, shop.owner_email) if address}
    return sorted(address for lower, address in wanted.items() if lower not in mailed)


def list_attached_files(files: Sequence[Mapping[str, Any]], manifest_size: int) -> list[str]:
    """Return the names of the attached files, as many as fit: the statement first."""
    sizes = {file["name"]: int(file["size"]) for file in files} | {MANIFEST_NAME: manifest_size}
    order = sorted(sizes, key=lambda name: (name != PDF_NAME, sizes[name], name))
    attached, bytes_left = [], LARGEST_ATTACHED
    for name in order:
        if sizes[name] <= bytes_left:
            attached.append(name)
            bytes_left -= sizes[name]
    return attached


def record_package_mails(tx: Connection, run: JobRun, contents: Mapping[str, bytes], now: datetime) -> None:
    """Write the mail to the outbox for each recipient without one; ``contents`` are the attached files."""
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    shop = get_shop_by_id(tx, run.shop_id)
    (closed,) = list_closed_months(tx, shop.id, since=run.period, until=run.period)
    corrections = list_corrections(tx, shop.id, found_in=run.period)
    context = plan_package_context(shop.currency, closed, corrections, list(contents))
    attachments = [
        Attachment(
            name=f"{shop.slug}-{closed.period}-{name}",
            content_type=_TYPES[name.rpartition(".")[2]],
            content=content,
        )
        for name, content in contents.items()
    ]
    mails = [
        compose_mail(
            MONTH_PACKAGE_MAIL,
            context,
            shop=shop,
            recipient=address,
            period=closed.period,
            attachments=attachments,
        )
        for address in list_unmailed_recipients(tx, shop, closed.period)
    ]
    record_work(tx, record_mails(tx, mails, now, request_id=run.request_id), now)


def plan_package_context(
    shop_currency: str, closed: ClosedMonth, corrections: Sequence[Correction], attached: Sequence[str]
) -> dict[str, Any]:
    """Return the template context of ``month_package``; ``shop_currency`` comes first."""
    accounts: Mapping[str, Mapping[str, int]] = closed.figures["accounts"]
    order = sorted({*accounts, shop_currency}, key=lambda code: (code != shop_currency, code))
    names = [*(file["name"] for file in closed.files), MANIFEST_NAME]
    shown = [
        (f"{format_month(c.period)}: {format_account(c.account)}", change(c.change, c.currency))
        for c in corrections[:MAX_SHOWN]
    ]
    return {
        "month": format_month(closed.period),
        "sums": [
            (label, money(cents, currency))
            for currency in order
            for label, cents in sum_statement(accounts.get(currency, {}), closed.figures["counts"]).items()
        ],
        "taxes": [
            (f"{format_tax(tax)} to remit", money(cents, currency))
            for currency in order
            for tax, cents in sum_tax(accounts.get(currency, {})).items()
        ],
        "corrections": shown,
        "more": max(0, len(corrections) - MAX_SHOWN),
        "files": [name for name in names if name in attached],
        "elsewhere": [name for name in names if name not in attached],
        "where": closed.folder,
        "unread_days": closed.figures["counts"].get(UNREAD_DAYS, 0),
        "no_cost": closed.figures["counts"].get("pieces without cost", 0),
        "sha256": closed.manifest_sha256,
    }


def _sample(shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    currency = shop.currency if shop else "CAD"
    accounts = {
        "gross_sales": 4_812_650, "discounts": -120_400, "returns": -96_325, "shipping": 184_000,
        "cost_of_goods": -1_903_310, "payment_fees": -142_218, "tax:CA-BC:GST": 231_840,
        "tax:CA-BC:PST": 298_110, "tax:CA-ON:HST": 41_210,
    }  # fmt: skip
    names = ("profit-and-loss.csv", PDF_NAME, "sales-tax-summary.csv", "cost-of-goods.csv")
    closed = ClosedMonth(
        period=f"{now:%Y-%m}",
        closed_at=now,
        figures={"accounts": {currency: accounts}, "counts": {"pieces without cost": 14}},
        files=[{"name": name, "sha256": "", "size": 1} for name in (*names, "sales-tax.csv")],
        manifest_key="",
        manifest_sha256="9f2c5d0e" * 8,
    )
    late = [Correction("2026-08", "returns", currency, -88_150, -93_650)]
    return plan_package_context(currency, closed, late, [*names, MANIFEST_NAME])


MONTH_PACKAGE_MAIL = MailType(
    name="month_package",
    package="services.closing",
    about="a month was closed: its package",
    reader="shop owner and accountant",
    why="You get this because you are this shop’s owner or accountant. "
    "One mail for each month, when it is closed.",
    sample=_sample,
)
