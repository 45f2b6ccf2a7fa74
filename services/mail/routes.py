"""The route of each shop in a set, and each mail's turn on it. A few queries, whatever the set."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from services.core.crypto import SealBroken
from services.core.errors import Misconfigured, NotYet
from services.core.pg_arrays import int_array
from services.core.settings import get_settings
from services.ledger.limits import record_throttle, reserve_calls
from services.ledger.work import Outcome, PreparedCall
from services.mail.delivery_plan import OutboxRow
from services.mail.transports import SECRETS, Route, fleet_route, shop_route
from services.providers.outgoing_mail import AddressInvalid, parse_sender
from services.shops.secrets import find_secrets

_FIND_WISHES = """
select shop_id, settings -> 'mail' as mail from shop_config
 where shop_id = any(%(shop_id)s::int[]) and jsonb_typeof(settings -> 'mail') = 'object'
"""


def find_routes(tx: Connection, shop_ids: set[int | None]) -> dict[int | None, Route | Misconfigured]:
    """Return each shop's route, or what must be mended first; None is the fleet's own mail."""
    settings = get_settings()
    routes: dict[int | None, Route | Misconfigured] = dict.fromkeys(shop_ids, fleet_route(settings))
    scope = {"shop_id": int_array(sorted(shop_id for shop_id in shop_ids if shop_id is not None))}
    wishes: dict[int, Mapping[str, Any]] = {
        row.shop_id: row.mail for row in tx.exec_driver_sql(_FIND_WISHES, scope)
    }
    needed = [(shop_id, SECRETS.get(str(wish.get("transport")), "")) for shop_id, wish in wishes.items()]
    secrets = find_secrets(tx, [one for one in needed if one[1]])
    for shop_id, name in needed:
        secret = secrets.get((shop_id, name))
        try:
            if isinstance(secret, SealBroken):
                raise Misconfigured("mail.secret_unreadable", f"the shop's {name} does not open: {secret}")
            routes[shop_id] = shop_route(shop_id, wishes[shop_id], secret, settings)
        except Misconfigured as fault:
            routes[shop_id] = fault
    return {shop_id: _checked(route) for shop_id, route in routes.items()}


def apply_rate_limits(
    tx: Connection,
    plans: Sequence[PreparedCall | Outcome],
    rows: Mapping[str, OutboxRow],
    routes: Mapping[int | None, Route | Misconfigured],
    now: datetime,
) -> list[PreparedCall | Outcome]:
    """Return ``plans`` with those put off that go beyond an account's rate; no try of theirs is counted.

    The rate is the account's, over all processes: it is kept in ``rate_limits``, beside the shops'
    own under the fleet's number where it is the fleet's.
    """
    of_account: Counter[tuple[int, str]] = Counter()
    route_of: dict[int, Route] = {}
    for place, plan in enumerate(plans):
        if isinstance(plan, PreparedCall):
            route = routes[rows[plan.item.key].shop_id]
            if isinstance(route, Route):
                route_of[place] = route
                of_account[route.account, route.limit] += 1
    rates = {(route.account, route.limit): route.rate_per_second for route in route_of.values()}
    turns = {
        account: _take(tx, account, count, rates[account], now)
        for account, count in sorted(of_account.items())
    }
    placed = list(plans)
    for place in sorted(route_of, reverse=True):  # the last ones wait the longest
        route = route_of[place]
        waits = turns[route.account, route.limit]
        if waits:
            placed[place] = NotYet("mail.paced", "waits for its turn: the account's rate", wait=waits.pop())
    return placed


def _take(tx: Connection, account: tuple[int, str], count: int, rate: float, now: datetime) -> list[Any]:
    if rate:
        burst = max(1.0, rate)
        record_throttle(tx, *account, maximum=burst, available=burst, restore_per_second=rate, now=now)
    return reserve_calls(tx, *account, count, now)


def _checked(route: Route | Misconfigured) -> Route | Misconfigured:
    if isinstance(route, Route):
        try:
            parse_sender(route.sender)
        except AddressInvalid as fault:
            return Misconfigured("mail.sender_invalid", f"MAIL_FROM, or the shop's mail.sender: {fault}")
    return route
