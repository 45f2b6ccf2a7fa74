"""Stripe's own list of charges, through Stripe's library.

The library is imported at first use: it takes a second and tens of megabytes that most processes never
need. Its own retries are off, because waiting belongs to the ledger.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.core.errors import Misconfigured, Refused, RetryLater

TIMEOUT_SECONDS = 20.0
PAGE_SIZE = 100
WAIT_LONGEST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge as Stripe has it now. Amounts are integer minor units (JPY has no decimals)."""

    id: str
    amount_cents: int
    currency: str
    status: str
    paid: bool
    refunded: bool
    created: datetime
    refunded_cents: int = 0


def list_charges(key: str, base_url: str, created_gte: datetime, created_lt: datetime) -> Iterator[Charge]:
    """Yield every charge made from ``created_gte`` up to, not including, ``created_lt``; newest first.

    ``currency`` is upper case. Reads page by page (100 a request) as it is consumed. Raises
    ``RetryLater``, ``Misconfigured`` or ``Refused``, also between two charges.
    """
    import stripe

    if not key:
        raise Misconfigured("stripe.key_missing", "the shop has no stripe-key")
    with _meaning_of_errors(), closing(stripe.RequestsClient(timeout=TIMEOUT_SECONDS)) as http:
        client = stripe.StripeClient(
            key, base_addresses={"api": base_url.rstrip("/")}, max_network_retries=0, http_client=http
        )
        first_page = client.v1.charges.list(
            {
                "created": {"gte": int(created_gte.timestamp()), "lt": int(created_lt.timestamp())},
                "limit": PAGE_SIZE,
            }
        )
        for charge in first_page.auto_paging_iter():
            yield Charge(
                id=charge.id,
                amount_cents=charge.amount,
                currency=charge.currency.upper(),
                status=charge.status,
                paid=charge.paid,
                refunded=charge.refunded,
                created=datetime.fromtimestamp(charge.created, UTC),
                refunded_cents=charge.amount_refunded,
            )


@contextmanager
def _meaning_of_errors() -> Iterator[None]:
    """Turn the library's errors into what happens next. Source: stripe-python, ``stripe/_error.py``."""
    import stripe

    try:
        yield
    except (stripe.AuthenticationError, stripe.PermissionError) as error:
        raise Misconfigured("stripe.key_refused", _said(error)) from error
    except stripe.RateLimitError as error:
        raise RetryLater("stripe.rate_limited", _said(error), wait=_stated_wait(error)) from error
    except stripe.APIConnectionError as error:
        raise RetryLater("stripe.unavailable", "no answer from Stripe") from error
    except stripe.InvalidRequestError as error:
        raise Refused("stripe.invalid_request", _said(error)) from error
    except stripe.StripeError as error:
        raise RetryLater("stripe.unavailable", _said(error), wait=_stated_wait(error)) from error


def _said(error: Exception) -> str:
    """Return the status and Stripe's code. Its message may hold part of the key, so it stays out."""
    status, code = getattr(error, "http_status", None), getattr(error, "code", None)
    request_id = getattr(error, "request_id", None)
    parts = (f"HTTP {status}" if status else "", code or type(error).__name__, request_id or "")
    return " ".join(part for part in parts if part)


def _stated_wait(error: Exception) -> timedelta | None:
    stated = (getattr(error, "headers", None) or {}).get("retry-after", "")
    try:
        return timedelta(seconds=min(WAIT_LONGEST_SECONDS, max(0.0, float(stated))))
    except ValueError:
        return None
