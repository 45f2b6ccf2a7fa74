"""Audit summaries of a month close: figures and hashes, no names of people. Pure."""

from collections.abc import Sequence

from services.audit.chain import Entry, Mutation
from services.closing.corrections import Correction
from services.closing.package import CloseInputs, ClosePackage
from services.closing.profit_and_loss import net_sales
from services.jobs.handler import Run
from services.ledger.describe import format_money, format_money_change

MAX_AUDITED = 200
"""Corrections of one audit entry; the others are counted."""


def describe_late_corrections(run: Run, shop_id: int, late: Sequence[Correction], found_in: str) -> Entry:
    """Return the entry about corrections of closed months that go into the package of ``found_in``."""
    return Entry(shop_id, f"job {run.job}", "month_close", run.request_id, _describe_each(late, found_in))


def describe_closed_month(
    run: Run, inputs: CloseInputs, package: ClosePackage, late: Sequence[Correction]
) -> Entry:
    """Return the entry about a closed month, its package and its corrections."""
    sales = net_sales(package.figures["accounts"].get(inputs.currency, {}))
    summary = (
        f"closed {inputs.period}: net sales {format_money(sales, inputs.currency)}, "
        f"{len(package.files)} files, manifest {package.sha256[:12]}"
    )
    after = {"manifest_sha256": package.sha256, "files": [file._asdict() for file in package.files]}
    closed = Mutation("closed_periods", inputs.period, summary, None, after)
    mutations = [closed, *_describe_each(late, inputs.period)]
    return Entry(inputs.shop_id, f"job {run.job}", "month_close", run.request_id, mutations)


def _describe_each(late: Sequence[Correction], found_in: str) -> list[Mutation]:
    mutations = [
        Mutation(
            "period_corrections",
            f"{c.period}:{c.account}:{c.currency}",
            f"{c.period} {c.account}: {format_money_change(c.before, c.after, c.currency)}, "
            f"in the package of {found_in}",
            {"cents": c.before},
            {"cents": c.after},
        )
        for c in late[:MAX_AUDITED]
    ]
    if len(late) > MAX_AUDITED:
        mutations.append(
            Mutation(
                "period_corrections", found_in, f"and {len(late) - MAX_AUDITED} more corrections", None, None
            )
        )
    return mutations
