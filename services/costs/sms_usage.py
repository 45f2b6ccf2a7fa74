"""Job ``sms-costs``: reads what SMS cost each shop at Twilio."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from services.core.clock import utc_now
from services.core.crypto import SealBroken
from services.core.db import transaction
from services.core.errors import Misconfigured
from services.core.settings import get_settings
from services.costs.month import SMS
from services.costs.store import Cost, record_cost
from services.jobs.handler import JobResult, JobRun
from services.ledger.work import FollowUp
from services.providers.twilio import DailyUsage, fetch_daily_usage
from services.providers.twilio_credentials import parse_credentials
from services.shops.secrets import find_secrets

SECRET = "twilio-credentials"  # noqa: S105 - the name of the secret
READ_DAYS = 30
"""Twilio bills late, and a run may be missing: each run reads so many days again.

It is shorter than the shortest time for which references are kept: an older day would count twice."""


def read_sms_costs(run: JobRun, *, clock: Callable[[], datetime] = utc_now) -> JobResult:
    """Record the price of each of the last ``READ_DAYS`` and of today (UTC), in place of the one before.

    Results: ``done``, ``no_twilio`` (the shop has no credentials), ``unreadable`` (some records cannot be
    read; the others are recorded). A day without a price keeps the recorded one. Raises the ``WorkError`` of
    a call.
    """
    assert run.shop_id is not None  # noqa: S101 - the job is per shop
    with transaction() as tx:
        secret = find_secrets(tx, [(run.shop_id, SECRET)]).get((run.shop_id, SECRET))
    if secret is None:
        return JobResult(result="no_twilio", stats={"days": 0})
    if isinstance(secret, SealBroken):
        raise Misconfigured("twilio.credentials_unreadable", f"{SECRET} cannot be decrypted: {secret}")
    now = clock()
    last = now.date()
    first, base_url = last - timedelta(days=READ_DAYS), get_settings().twilio_api_base
    found = list(fetch_daily_usage(parse_credentials(secret), base_url, SMS, first, last))
    usage = [one for one in found if one is not None]
    stats = {
        "days": len(usage),
        "days_without_price": sum(one.price is None for one in usage),
        "unreadable": len(found) - len(usage),
    }
    return JobResult(
        result="unreadable" if stats["unreadable"] else "done",
        stats=stats,
        record=partial(_record, run.shop_id, usage, now),
    )


def _record(shop_id: int, usage: Sequence[DailyUsage], now: datetime, tx: Connection) -> FollowUp:
    costs = [
        Cost(shop_id, SMS, "twilio", SMS, one.price, one.currency, one.day)
        for one in usage
        if one.price is not None
    ]
    record_cost(tx, *costs, now=now)
    return FollowUp()
