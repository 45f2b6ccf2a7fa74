"""The route of each shop in a batch, the rate limits of its accounts, and the routes that are stopped."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.core.crypto import SealBroken
from services.core.errors import Deferred, Misconfigured, RetryLater, WorkError
from services.core.settings import get_settings
from services.ledger.rate_limits import record_throttle, reserve_calls
from services.ledger.work import Outcome
from services.mail.delivery_plan import MailDelivery
from services.mail.transports import SECRETS, MailRoute, make_fleet_route, make_shop_route
from services.providers.outgoing_mail import AddressInvalid, MailThrottled, parse_sender
from services.shops.mail_transport import find_mail_choices
from services.shops.secrets import find_secrets

MISCONFIGURED_PAUSE = timedelta(seconds=10)
"""How long a misconfigured route is not used: the rest of a batch, and not long after a repair."""


def find_routes(tx: Connection, shop_ids: set[int | None]) -> dict[int | None, MailRoute | Misconfigured]:
    """Return each shop's route (None: the fleet's own mail), or the fault that prevents sending."""
    settings = get_settings()
    routes: dict[int | None, MailRoute | Misconfigured] = dict.fromkeys(shop_ids, make_fleet_route(settings))
    choices = find_mail_choices(tx, sorted(shop_id for shop_id in shop_ids if shop_id is not None))
    names = {shop_id: SECRETS.get(choice.transport, "") for shop_id, choice in choices.items()}
    secrets = find_secrets(tx, [(shop_id, name) for shop_id, name in names.items() if name])
    for shop_id, name in names.items():
        secret = secrets.get((shop_id, name))
        try:
            if isinstance(secret, SealBroken):
                raise Misconfigured("mail.secret_unreadable", f"{name} cannot be decrypted: {secret}")
            routes[shop_id] = make_shop_route(shop_id, choices[shop_id], secret, settings)
        except Misconfigured as fault:
            routes[shop_id] = fault
    return {shop_id: _check_sender(route) for shop_id, route in routes.items()}


def reserve_sends(tx: Connection, deliveries: Sequence[MailDelivery], now: datetime) -> dict[int, Outcome]:
    """Take a token of the account's rate limit for each delivery; return the waits of the rest, by work id.

    All processes share the bucket in ``rate_limits``, under the account's shop or ``FLEET``. A wait does not
    count as a try.
    """
    by_account: dict[tuple[int, str], list[MailDelivery]] = defaultdict(list)
    for delivery in deliveries:
        by_account[delivery.route.account, delivery.route.limit].append(delivery)
    waits: dict[int, Outcome] = {}
    for account in sorted(by_account):
        members = by_account[account]
        if rate := members[-1].route.rate_per_second:
            burst = max(1.0, rate)
            record_throttle(tx, *account, maximum=burst, available=burst, restore_per_second=rate, now=now)
        delays = reserve_calls(tx, *account, len(members), now)
        for delivery, delay in zip(reversed(members), reversed(delays), strict=False):
            waits[delivery.item.id] = Deferred("mail.paced", "waits for the account's rate limit", wait=delay)
    return waits


class CircuitBreaker:
    """Stores in this process why and until when nothing is sent through a route."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._faults: dict[MailRoute, tuple[float, WorkError]] = {}

    def open(self, route: MailRoute, fault: WorkError) -> timedelta | None:
        """Stop sending through ``route`` if ``fault`` concerns all its mails; return the stated pause."""
        if isinstance(fault, Misconfigured):
            self._faults[route] = (self._clock() + MISCONFIGURED_PAUSE.total_seconds(), fault)
        elif isinstance(fault, MailThrottled) and fault.wait is not None:
            self._faults[route] = (self._clock() + fault.wait.total_seconds(), fault)
            return fault.wait
        return None

    def find_fault(self, route: MailRoute) -> WorkError | None:
        """Return why nothing is sent through ``route`` now, or None."""
        until, fault = self._faults.get(route, (0.0, None))
        seconds = until - self._clock()
        if fault is None or seconds <= 0:
            self._faults.pop(route, None)
            return None
        if isinstance(fault, RetryLater):
            return Deferred(fault.code, f"account paused: {fault.detail}", wait=timedelta(seconds=seconds))
        return fault


def _check_sender(route: MailRoute | Misconfigured) -> MailRoute | Misconfigured:
    if isinstance(route, MailRoute):
        try:
            parse_sender(route.sender)
        except AddressInvalid as fault:
            return Misconfigured("mail.sender_invalid", f"MAIL_FROM, or the shop's mail.sender: {fault}")
    return route
