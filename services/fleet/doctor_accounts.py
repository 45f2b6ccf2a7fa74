"""Checks of ``fleet doctor`` that use our credentials: the archive, mail, and the shops' providers.

No mail is sent, and nothing changes at a provider. Calls count as those of workers do: they set a shop's
connection to ``broken`` or ``ok``.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from services.core.counts import format_count
from services.core.errors import Misconfigured, WorkError
from services.core.settings import Settings
from services.core.times import format_time
from services.fleet.doctor_check import DoctorCheck, run_checks
from services.fleet.doctor_database import is_migrated, open_database

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from services.mail.transports import MailRoute
    from services.shops.shops import Shop

MOST_SHOPS = 50
"""Shops whose providers are called, at most two calls each."""

_SECONDS = 20.0
_SHOWN = 5
"""Shops that are named in one line."""
_ARCHIVE = "check ARCHIVE_URL, the AWS_ settings and the rights of the store (docs/audit.md, The store)"
_RETRIED = "nothing, if it ends soon: work is retried. Else check this machine's way to it (DNS, firewall)"


def check_archive(settings: Settings) -> Iterator[DoctorCheck]:
    """Write, read and delete a probe object. A store that keeps it is right: the audit must stay."""
    from services.providers.object_store import open_store

    key, data = f"probe/{uuid4().hex}", b"written by fleet doctor"
    try:
        store = open_store(settings.archive_url)
        store.put(key, data)
        is_same = store.get(key) == data
        where = store.describe()
    except WorkError as fault:
        yield DoctorCheck("archive", False, fault.detail, _ARCHIVE)
        return
    try:
        store.delete(key)
        kept = "and deleted"
    except WorkError:
        kept = "and kept: the store refuses to delete it, as it should refuse to delete the audit"
    seen = (
        f"{where}; a probe was written, read {kept}" if is_same else f"{where}: the probe {key} was altered"
    )
    yield DoctorCheck("archive", is_same, seen, _ARCHIVE)


def check_mail(settings: Settings) -> Iterator[DoctorCheck]:
    """Connect to the account of the fleet, and to those of shops with one of their own; sign in."""
    from services.mail.routes import find_routes
    from services.mail.transports import make_fleet_route
    from services.shops.mail_transport import find_mail_choices
    from services.shops.shops import list_shops

    routes: dict[str, MailRoute | Misconfigured] = {"": make_fleet_route(settings)}
    if is_migrated(settings):
        with open_database(settings.database_url) as tx:
            shops = {shop.id: shop.slug for shop in list_shops(tx)}
            own = [
                shop_id
                for shop_id, choice in find_mail_choices(tx, sorted(shops)).items()
                if choice.transport
            ]
            routes |= {shops[shop_id]: route for shop_id, route in find_routes(tx, {*own}).items() if shop_id}
    checks = {
        f"mail of {slug}" if slug else "mail": partial(_check_route, slug, route)
        for slug, route in list(routes.items())[: MOST_SHOPS + 1]
    }
    yield from run_checks(checks, _SECONDS)


def _check_route(slug: str, route: "MailRoute | Misconfigured") -> Iterator[DoctorCheck]:
    from services.mail.remedies import MailSender, find_remedy
    from services.mail.transports import open_transport

    check = f"mail of {slug}" if slug else "mail"
    transport = "" if isinstance(route, Misconfigured) else route.transport
    try:
        if isinstance(route, Misconfigured):
            raise route
        opened = open_transport(route)
        try:
            seen = opened.check()
        finally:
            opened.close()
    except WorkError as fault:
        sender = MailSender(transport or fault.code.partition(".")[0], slug, is_own=bool(slug))
        is_ours = isinstance(fault, Misconfigured) or fault.code == "smtp.host_unknown"
        remedy = find_remedy(fault.code, sender) if is_ours else _RETRIED
        yield DoctorCheck(check, False, f"{fault.code}: {fault.detail}", remedy or "see docs/mail.md")
    else:
        yield DoctorCheck(check, True, f"{transport}: {seen}")


def check_shops(settings: Settings) -> Iterator[DoctorCheck]:
    """Call the providers of each shop with its credentials, then report every broken connection."""
    from services.mail.connection_lines import list_connection_lines
    from services.shops.secrets import find_secrets
    from services.shops.shops import list_shops

    if not is_migrated(settings):
        return
    with open_database(settings.database_url) as tx:
        shops = list_shops(tx)
        wanted = [(shop.id, name) for shop in shops for name in _CALLS]
        secrets = {pair: secret for pair, secret in find_secrets(tx, wanted).items() if secret}
    with_secret = [shop for shop in shops if any((shop.id, name) in secrets for name in _CALLS)]
    checks = {
        f"{name} of {shop.slug}": partial(_call, settings, shop, name, secrets[shop.id, name])
        for shop in with_secret[:MOST_SHOPS]
        for name in _CALLS
        if (shop.id, name) in secrets
    }
    yield from run_checks(checks, _SECONDS)
    with open_database(settings.database_url) as tx:
        used = [line for line in list_connection_lines(tx, settings.mail_transport) if line.is_used]
        limits = _describe_order_limits(tx)
    broken = [line for line in used if line.status == "broken"]
    for line in broken:
        since = format_time(line.since, settings.zone, with_seconds=True)
        seen = f"{line.provider} of {line.shop} is broken since {since}: {line.code}"
        yield DoctorCheck("connection", False, seen, line.to_do or line.detail)
    if not broken:
        called = f"; {len(checks)} called now" if checks else ""
        seen = f"{len(used)} in use, none refuses our credential{called}"
        yield DoctorCheck("connection", True, seen)
    if (left := len(with_secret) - MOST_SHOPS) > 0:
        seen = f"{left} more were not called"
        yield DoctorCheck("shops", True, seen, "fleet overview shows all of them", is_note=True)
    if unconnected := [shop.slug for shop in shops if (shop.id, "shopify-token") not in secrets]:
        seen = f"not connected to Shopify: {_join(unconnected, ', ')}"
        yield DoctorCheck("shops", True, seen, f"fleet shops connect {unconnected[0]}", is_note=True)
    yield limits


def _call(settings: Settings, shop: "Shop", name: str, secret: object) -> Iterator[DoctorCheck]:
    """Yield a finding only for a fault that is not recorded as a broken connection."""
    from services.core.crypto import SealBroken
    from services.mail.remedies import REMEDIES
    from services.shops.connections import recorded_calls

    check = f"{name} of {shop.slug}"
    if isinstance(secret, SealBroken):
        remedy = (
            f"set SECRET_KEY_PREVIOUS to the former key, or fleet shops secret {shop.slug} {name} --stdin"
        )
        yield DoctorCheck(check, False, f"it cannot be decrypted: {secret}", remedy)
        return
    try:
        with recorded_calls(shop.id):
            faults = _CALLS[name](settings, shop, str(secret))
    except Misconfigured as fault:
        if fault.code in REMEDIES:
            return  # recorded, so it is in the list of broken connections
        yield DoctorCheck(check, False, f"{fault.code}: {fault.detail}", f"fleet shops show {shop.slug}")
    except WorkError as fault:
        yield DoctorCheck(check, False, f"{fault.code}: {fault.detail}", _RETRIED)
    else:
        for fault_text in faults:
            yield DoctorCheck(check, False, fault_text, f"then run: fleet shops connect {shop.slug}")


def _call_shopify(_settings: Settings, shop: "Shop", _secret: str) -> list[str]:
    from services.shopify.first_contact import find_token_faults
    from services.shopify.shop_access import open_admin

    access = open_admin(shop.id).fetch_access()
    return find_token_faults(shop, shop.shopify_domain or access.domain, access)


def _call_stripe(settings: Settings, _shop: "Shop", secret: str) -> list[str]:
    from services.providers.stripe_api import fetch_objects

    next(fetch_objects(secret, settings.stripe_api_base, "charges", limit=1), None)
    return []


def _call_twilio(settings: Settings, _shop: "Shop", secret: str) -> list[str]:
    from services.core.clock import utc_now
    from services.providers.twilio import fetch_daily_usage
    from services.providers.twilio_credentials import parse_credentials

    today = utc_now().date()
    next(fetch_daily_usage(parse_credentials(secret), settings.twilio_api_base, "sms", today, today), None)
    return []


def _call_notion(settings: Settings, shop: "Shop", secret: str) -> list[str]:
    from services.conversations.access import no_data_source
    from services.conversations.pages import load_schema
    from services.providers.call_outcomes import noted_call
    from services.providers.notion import PROVIDER, Notion

    if not shop.notion_data_source:
        with noted_call(PROVIDER, "data_sources"):
            raise no_data_source(shop)
    load_schema(Notion(settings.notion_api_base, secret), shop.notion_data_source)
    return []


def _call_quo(settings: Settings, _shop: "Shop", secret: str) -> list[str]:
    from services.providers.quo_api import Quo

    next(Quo(settings.quo_api_base, secret).list_phone_numbers(), None)
    return []


_CALLS: Mapping[str, Callable[[Settings, "Shop", str], list[str]]] = {
    "shopify-token": _call_shopify,
    "stripe-key": _call_stripe,
    "twilio-credentials": _call_twilio,
    "notion-key": _call_notion,
    "quo-key": _call_quo,
}
"""The credentials that authorize calls, each with one call that changes nothing."""


def _describe_order_limits(tx: "Connection") -> DoctorCheck:
    """Name the orders that were not read. That is no fault of the machine: reports are marked incomplete."""
    from services.shopify.backfill.state import list_order_limits

    limits = [f"{slug}: {limit}" for slug, limit in list_order_limits(tx)]
    seen = _join(limits, "; ") or "no shop lacks orders"
    remedy = "grant the app read_all_orders, then connect the shop again" if limits else ""
    return DoctorCheck("orders", True, seen, remedy, is_note=bool(limits))


def _join(texts: list[str], separator: str) -> str:
    more = f"{separator}and {format_count(len(texts) - _SHOWN, 'more shop')}" if len(texts) > _SHOWN else ""
    return separator.join(texts[:_SHOWN]) + more
