"""One comparison of a shop's day with Stripe, and the statements that stage the breaks it finds."""

from datetime import date, datetime
from typing import NamedTuple

SUBJECTS = ("charge", "refund", "dispute", "payout")
"""The kinds of transactions that are compared."""


class DayComparison(NamedTuple):
    """A comparison of the day from ``begins`` up to, not including, ``ends``; ``token`` identifies it.

    ``_asdict()`` has the parameters of all its statements.
    """

    shop_id: int
    day: date
    begins: datetime
    ends: datetime
    token: str
    now: datetime
    request_id: str = ""


IS_STAGED = "f.shop_id = %(shop_id)s and f.day = %(day)s and f.token = %(token)s"
"""The rows ``f`` of ``reconciliation_staging`` that belong to the comparison."""


PAID_CHARGES = """
charges as (
  select provider_id, parent_id, order_ref, amount_cents, currency, occurred_at from transactions
   where shop_id = %(shop_id)s and kind = 'charge' and status = 'paid'
     and occurred_at >= %(begins)s and occurred_at < %(ends)s
), refs as (
  select provider_id as ref from charges union select parent_id from charges where parent_id is not null
)
"""
"""The paid charges of the day, and the ids that Shopify may have recorded for their payments."""


def insert_staged_sql(cause: str = "") -> str:
    """Return the start of an insert; kind, provider_id, subject, ours, theirs and evidence follow."""
    return f"""
insert into reconciliation_staging
       (shop_id, day, token, found_at, cause, kind, provider_id, subject, ours, theirs, evidence)
select %(shop_id)s, %(day)s, %(token)s, %(now)s, '{cause}',"""


def side_json(amount: str, currency: str, status: str, fee: str = "null") -> str:
    """Return the SQL expression of one side of a break; a fee that is null is left out."""
    side = f"jsonb_build_object('amount_cents', {amount}, 'currency', {currency}, 'status', {status}"
    return f"{side})" if fee == "null" else f"jsonb_strip_nulls({side}, 'fee_cents', {fee}))"
