"""The route of each shop in a batch, and the rate limits of its accounts. A few queries per batch."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from services.core.crypto import SealBroken
from services.core.errors import Misconfigured, NotYet
from services.core.settings import get_settings
from services.ledger.limits import record_throttle, reserve_calls
from services.ledger.work import Outcome, PreparedCall
from services.mail.delivery_plan import OutboxRow
from services.mail.transports import SECRETS, Route, fleet_route, shop_route
from services.providers.outgoing_mail import AddressInvalid, parse_sender
from services.shops.mail_transport import find_mail_choices
from services.shops.secrets import find_secrets


def find_routes(tx: Connection, shop_ids: set[int | None]) -> dict[int | None, Route | Misconfigured]:
    """Return each shop's route, or what to repair first; None is the fleet's own mail."""
    settings = get_settings()
    routes: dict[int | None, Route | Misconfigured] = dict.fromkeys(shop_ids, fleet_route(settings))
    choices = find_mail_choices(tx, sorted(shop_id for shop_id in shop_ids if shop_id is not None))
    names = {shop_id: SECRETS.get(choice.transport, "") for shop_id, choice in choices.items()}
    secrets = find_secrets(tx, [(shop_id, name) for shop_id, name in names.items() if name])
    for shop_id, name in names.items():
        secret = secrets.get((shop_id, name))
        try:
            if isinstance(secret, SealBroken):
                raise Misconfigured("mail.secret_unreadable", f"the shop's {name} does not open: {secret}")
            routes[shop_id] = shop_route(shop_id, choices[shop_id], secret, settings)
        except Misconfigured as fault:
            routes[shop_id] = fault
    return {shop_id: _check_sender(route) for shop_id, route in routes.items()}


def apply_rate_limits(
    tx: Connection,
    plans: Sequence[PreparedCall | Outcome],
    rows: Mapping[str, OutboxRow],
    routes: Mapping[int | None, Route | Misconfigured],
    now: datetime,
) -> list[PreparedCall | Outcome]:
    """Return ``plans``; those above an account's rate wait, and their try is not counted.

    The rate holds for the account over all processes: ``rate_limits`` has it under the account's shop, or
    ``FLEET``.
    """
    places: dict[tuple[int, str], list[int]] = defaultdict(list)
    rates: dict[tuple[int, str], float] = {}
    for place, plan in enumerate(plans):
        route = routes[rows[plan.item.key].shop_id] if isinstance(plan, PreparedCall) else None
        if isinstance(route, Route):
            account = route.account, route.limit
            places[account].append(place)
            rates[account] = route.rate_per_second
    limited = list(plans)
    for account in sorted(places):
        waits = _reserve(tx, account, len(places[account]), rates[account], now)
        for place in reversed(places[account]):  # the last ones wait the longest
            if waits:
                limited[place] = NotYet("mail.paced", "waits for the account's rate limit", wait=waits.pop())
    return limited


def _reserve(
    tx: Connection, account: tuple[int, str], count: int, rate: float, now: datetime
) -> list[timedelta]:
    if rate:
        burst = max(1.0, rate)
        record_throttle(tx, *account, maximum=burst, available=burst, restore_per_second=rate, now=now)
    return reserve_calls(tx, *account, count, now)


def _check_sender(route: Route | Misconfigured) -> Route | Misconfigured:
    if isinstance(route, Route):
        try:
            parse_sender(route.sender)
        except AddressInvalid as fault:
            return Misconfigured("mail.sender_invalid", f"MAIL_FROM, or the shop's mail.sender: {fault}")
    return route
