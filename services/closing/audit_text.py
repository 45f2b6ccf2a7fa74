"""What the audit says of a closing: figures and hashes, no names of anybody. Pure."""

from collections.abc import Sequence

from services.audit.chain import Entry, Mutation
from services.closing.corrections import Correction
from services.closing.package import CloseInputs, ClosePackage
from services.closing.profit_and_loss import net_sales
from services.jobs.handler import Run
from services.ledger.describe import format_money, format_money_change

SAID = 200
"""Corrections named one by one; a count stands for the rest."""


def describe_late_corrections(run: Run, shop_id: int, late: Sequence[Correction], found_in: str) -> Entry:
    """Return the entry that corrections of closed months were found, to be told in ``found_in``."""
    return Entry(shop_id, f"job {run.job}", "month_close", run.request_id, _say_each(late, found_in))


def describe_closed_month(
    run: Run, books: CloseInputs, package: ClosePackage, late: Sequence[Correction]
) -> Entry:
    """Return the entry that a month was closed, and with what."""
    sales = net_sales(package.figures["accounts"].get(books.currency, {}))
    summary = (
        f"closed {books.period}: net sales {format_money(sales, books.currency)}, "
        f"{len(package.files)} files, manifest {package.sha256[:12]}"
    )
    after = {"manifest_sha256": package.sha256, "files": [file._asdict() for file in package.files]}
    closed = Mutation("closed_periods", books.period, summary, None, after)
    mutations = [closed, *_say_each(late, books.period)]
    return Entry(books.shop_id, f"job {run.job}", "month_close", run.request_id, mutations)


def _say_each(late: Sequence[Correction], found_in: str) -> list[Mutation]:
    said = [
        Mutation(
            "period_corrections",
            f"{c.period}:{c.account}:{c.currency}",
            f"{c.period} {c.account}: {format_money_change(c.before, c.after, c.currency)}, "
            f"told in {found_in}",
            {"cents": c.before},
            {"cents": c.after},
        )
        for c in late[:SAID]
    ]
    if len(late) > SAID:
        said.append(
            Mutation("period_corrections", found_in, f"and {len(late) - SAID} more corrections", None, None)
        )
    return said
