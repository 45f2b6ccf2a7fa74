"""Changes on ``/shops/<shop>``: settings, staff, secrets, thresholds; and the package of a closed month."""

import zipfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import IO, Any, NamedTuple

from flask import Blueprint, abort, flash, g, redirect, request, send_file, url_for

from services.accounts.roles import Role
from services.alerts.rules import FIGURE_RULES
from services.alerts.thresholds import load_thresholds, set_threshold
from services.audit.append import Mutation, append_change
from services.audit.store import ObjectStore
from services.closing.corrections import ClosedMonth, find_closed_month
from services.closing.month_package import MANIFEST_NAME
from services.console.account import make_author
from services.console.list_reader import parse_whole
from services.console.shop_pages import get_visible_shop, show_shop
from services.core.db import transaction
from services.core.errors import InputInvalid, ShopfleetError
from services.core.settings import get_settings
from services.core.times import format_time
from services.providers.delivery import is_storable
from services.providers.object_store import open_store
from services.providers.provider import SecretInvalid, SecretKind
from services.providers.registry import get_secret_kind
from services.shopify.shop_changes import change_shop, compare_domain
from services.shopify.stock.count_store import release_levels
from services.shopify.uninstall import record_installed
from services.shops.fields import replace_rates
from services.shops.secrets import list_secret_states, record_secret, restore_secret
from services.shops.shops import FIELDS, Shop
from services.shops.staff import record_staff

MOST_HOURS = 168
"""A replaced secret stays valid for at most this time."""
_LONGEST_SECRET = 8192
_IN_MEMORY = 8 << 20


def shop_changes_blueprint() -> Blueprint:
    blueprint = Blueprint("shop_changes", __name__, url_prefix="/shops/<slug>")
    blueprint.add_url_rule("/secrets", "record_secret", _record_secret, methods=["POST"])
    blueprint.add_url_rule("/months/<period>", "download_month", _download_month, methods=["POST"])
    for section, endpoint, act in (
        ("settings", "change_settings", _change_settings),
        ("staff", "change_staff", lambda slug: [change_staff(slug, request.form)]),
        ("thresholds", "set_threshold", lambda slug: [change_threshold(slug, request.form)]),
    ):
        view = _make_view(section, act)
        blueprint.add_url_rule(f"/{section}", endpoint, view, methods=["POST"])
    return blueprint


def _make_view(section: str, act: Callable[[str], list[str]]) -> Callable[[str], Any]:
    def view(slug: str) -> Any:
        try:
            for text in act(slug):
                flash(text)
        except ShopfleetError as fault:
            flash(str(fault), "error")
        return _back(slug, section)

    return view


def _change_settings(slug: str) -> list[str]:
    return change_settings(slug, request.form, is_forced="force" in request.form)


def _download_month(slug: str, period: str) -> Any:
    try:
        return send_month(slug, period)
    except ShopfleetError as fault:
        flash(str(fault), "error")
        return _back(slug, "months")


def _get_own_shop(slug: str) -> Shop:
    """Return the shop of which this person is an admin; answer 404 without a role at it, 403 with another."""
    shop = get_visible_shop(slug)
    if not g.access.may(Role.ADMIN, shop.id):
        abort(403, "this needs the role admin at the shop")
    return shop


def change_settings(slug: str, given: Mapping[str, str], *, is_forced: bool) -> list[str]:
    """Set the fields that differ from what the person saw, ``was_FIELD``: changes of others in between stay.

    Returns what was done, after a warning. ``is_forced``: also if costs count against no limit any more.
    """
    shop = _get_own_shop(slug)
    wanted = {field: given[field].strip() for field in FIELDS if field in given}
    wanted = {field: value for field, value in wanted.items() if value != given.get(f"was_{field}")}
    if not wanted:
        raise InputInvalid("nothing is changed: no field has another value")
    warning = compare_domain(slug, wanted["shopify_domain"]) if wanted.get("shopify_domain") else ""
    if "exchange_rates" in wanted:
        before = given.get("was_exchange_rates", shop.exchange_rates)
        wanted["exchange_rates"] = replace_rates(before, wanted["exchange_rates"])
    with transaction() as tx:
        change = change_shop(tx, slug, wanted, g.at, by=g.access.email, request_id=g.request_id)
        if change.left and not is_forced:
            raise InputInvalid(
                f"{'; '.join(change.left)}: no rate would be stated. State a rate, or allow it"
            )
    if change.after.stock_owner != change.before.stock_owner:
        with transaction() as tx:
            release_levels(tx, shop.id, g.at, by=g.access.email, request_id=g.request_id)
    return [*([warning] if warning else []), f"Changed: {', '.join(wanted)}."]


def change_staff(slug: str, given: Mapping[str, str]) -> str:
    """Set the name of a staff number, or without ``name`` remove it; return what was done."""
    _get_own_shop(slug)
    number, name = given.get("number", "").strip(), given.get("name", "").strip()
    with transaction() as tx:
        record_staff(tx, slug, {number: name}, g.at, by=g.access.email, request_id=g.request_id)
    return f"Staff {number} {'has a name' if name else 'has no name any more'}."


class RecordedSecret(NamedTuple):
    """What was done; and the name and value of a secret that was generated, to show it once."""

    text: str
    generated: tuple[str, str] | None = None


def record_own_secret(slug: str, given: Mapping[str, str]) -> RecordedSecret:
    """Record the secret ``name``, generate it, or with ``restore`` use a retired one again."""
    shop, is_generated = _get_own_shop(slug), bool(given.get("generate"))
    if "restore" in given:
        return RecordedSecret(_restore_secret(shop, given["restore"]))
    kind = _parse_kind(given.get("name", "").strip())
    value = kind.generate() if is_generated else given.get("value", "")
    if len(value) > _LONGEST_SECRET:
        raise InputInvalid(f"the value of {kind.name} is longer than {_LONGEST_SECRET:,} characters")
    hours = given.get("hours", "").strip()
    keep = timedelta(hours=parse_whole("hours", hours, 0, MOST_HOURS)) if hours else None
    with transaction() as tx:
        is_new = record_secret(
            tx, shop.id, kind.name, value, g.at, keep, by=g.access.email, request_id=g.request_id
        )
        states = {state.name: state for state in list_secret_states(tx, shop.id, g.at)}
    text = f"{kind.name} is recorded." if is_new else f"{kind.name} has this value already."
    if until := states[kind.name].previous_until:
        text += f" The previous one is valid until {format_time(until)}."
    return RecordedSecret(text, (kind.name, value) if is_generated else None)


def _record_secret(slug: str) -> Any:
    """Record a secret. A generated one is in this answer alone; no value is in a flash, which is a cookie."""
    try:
        recorded = record_own_secret(slug, request.form)
    except ShopfleetError as fault:
        flash(str(fault), "error")
        return _back(slug, "secrets")
    flash(recorded.text)
    return show_shop(slug, new_secret=recorded.generated) if recorded.generated else _back(slug, "secrets")


def _restore_secret(shop: Shop, name: str) -> str:
    """Use a retired secret again, while it is kept and nothing has replaced it."""
    kind = _parse_kind(name)
    with transaction() as tx:
        if not restore_secret(tx, shop.id, kind.name, g.at, by=g.access.email, request_id=g.request_id):
            raise InputInvalid(f"there is no retired {kind.name}, or a current one has replaced it")
        if kind.name == "shopify-token":
            record_installed(tx, shop.id, g.at)
    return f"{kind.name} is in use again."


def _parse_kind(name: str) -> SecretKind:
    """Return the kind ``name``; an unknown one may be a value in the wrong field, and is not repeated."""
    try:
        return get_secret_kind(name)
    except SecretInvalid:
        raise InputInvalid("name should be that of a secret, as in the list") from None


def change_threshold(slug: str, given: Mapping[str, str]) -> str:
    """Set the shop's own threshold of a rule, or without ``threshold`` remove it; return what was done."""
    shop = _get_own_shop(slug)
    rule = FIGURE_RULES.get(given.get("rule", "").strip())
    if rule is None:
        raise InputInvalid("rule should be one of those that `fleet alerts list` shows")
    threshold = _parse_threshold(given.get("threshold", "").strip())
    with transaction() as tx:
        before = load_thresholds(tx).find(rule, shop.id)
        author = make_author(given.get("reason", "").strip())
        set_threshold(tx, rule.name, shop.id, threshold, **author)
        after = load_thresholds(tx).find(rule, shop.id)
    return f"The threshold of {rule.name} was {before:g} and is {after:g} {rule.unit}."


def _parse_threshold(typed: str) -> float | None:
    try:
        return float(typed) if typed else None
    except ValueError:
        raise InputInvalid("threshold should be a number, such as 2.5, or empty") from None


def send_month(slug: str, period: str) -> Any:
    """Send the files of a closed month as one ZIP file, after each was compared with its hash.

    Raises ``ShopfleetError`` for a file that differs.
    """
    shop = _get_own_shop(slug)
    with transaction() as tx:
        closed = find_closed_month(tx, shop.id, period) if is_storable(period) else None
    if closed is None:
        abort(404, f"{period} is not closed")
    package = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - the response closes it
    try:
        _write_package(open_store(get_settings().archive_url), closed, package)
    except ShopfleetError:
        package.close()
        raise
    mutation = Mutation("closed_periods", f"{shop.id}/{period}", f"downloaded the package of {period}")
    with transaction() as tx:
        append_change(tx, "month.download", {shop.id: [mutation]}, **make_author())
    package.seek(0)
    return send_file(package, "application/zip", as_attachment=True, download_name=f"{slug}-{period}.zip")


def _write_package(store: ObjectStore, closed: ClosedMonth, out: IO[bytes]) -> None:
    hashes = {file["name"]: file["sha256"] for file in closed.files}
    hashes[MANIFEST_NAME] = closed.manifest_sha256
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, wanted in hashes.items():
            data = store.get(closed.folder + name)
            if sha256(data).hexdigest() != wanted:
                raise ShopfleetError(
                    f"{name} of {closed.period} is not as it was closed: `fleet month-close verify` lists all"
                )
            archive.writestr(name, data)


def _back(slug: str, section: str) -> Any:
    return redirect(url_for("shops.show", slug=slug, _anchor=section))
