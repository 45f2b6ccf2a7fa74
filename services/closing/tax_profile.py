"""A shop's sales tax registrations and their numbers: ``shop_config.settings`` ``tax``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import orjson
from sqlalchemy import Connection

from services.audit.append import AuditEntry, Mutation, append_all
from services.closing.tax_rates import TAXES, find_place_fault
from services.core.errors import describe_unknown, join_faults
from services.shops.shops import ShopInvalid

_PROVINCE = re.compile(r"[A-Z]{2}-[A-Z0-9]{1,3}")
_GST_NUMBER = (re.compile(r"\d{9} ?RT ?\d{4}"), "nine digits, RT and four digits such as 123456789 RT0001")
_NUMBERS = {
    "GST": _GST_NUMBER,
    "HST": _GST_NUMBER,
    "QST": (re.compile(r"\d{10} ?TQ ?\d{4}"), "ten digits, TQ and four digits such as 1234567890 TQ0001"),
    "PST": (re.compile(r"(?=.*\d)[A-Za-z0-9][A-Za-z0-9 /-]{3,39}"), "a number such as PST-1234-5678"),
}
"""The form of each tax's registration number. PST has one form in each province."""
_EXEMPT = re.compile(r"(?:type|tag|sku):\S[^,\0]{0,254}")
_FEDERAL = frozenset({"GST", "HST"})

_FIND = "select settings -> 'tax' from shop_config where shop_id = %(shop_id)s"

_FIND_HOME = "select province from storefronts where shop_id = %(shop_id)s"

_RECORD = """
insert into shop_config as c (shop_id, settings)
values (%(shop_id)s, jsonb_build_object('tax', %(tax)s::jsonb))
on conflict (shop_id) do update set settings = c.settings || excluded.settings
"""


class ProfileInvalid(ShopInvalid):
    """A tax profile is invalid. The message names every fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxProfile:
    """``registered`` is None until it is set: then every tax in the rates is expected.

    ``numbers`` are by tax: ``GST`` (also for HST), ``PST``, ``QST``.
    """

    province: str = ""
    numbers: Mapping[str, str] = field(default_factory=dict)
    registered: frozenset[str] | None = None
    pst_exempt: tuple[str, ...] = ()
    """Goods exempt from provincial tax: ``type:`` (of product), ``tag:`` or ``sku:`` and its text."""

    def collects(self, tax: str, province: str) -> bool:
        """Whether the shop should charge ``tax`` on deliveries to ``province``.

        One registration covers GST and HST in all of Canada; PST and QST each belong to one province.
        """
        if self.registered is None:
            return True
        if tax in _FEDERAL:
            return bool(self.registered & _FEDERAL)
        return f"{tax}:{province}" in self.registered or (
            tax in self.registered and province == self.province
        )

    def registration_number(self, tax: str, province: str) -> str:
        """Return the registration number under which ``tax`` of ``province`` is remitted, or nothing."""
        if tax in _FEDERAL:
            return self.numbers.get("GST", "")
        return self.numbers.get(tax, "") if province == self.province else ""


def find_tax_profile(tx: Connection, shop_id: int) -> TaxProfile:
    """Return the shop's profile; an empty one until it is set."""
    return _from_stored(tx.exec_driver_sql(_FIND, {"shop_id": shop_id}).scalar() or {})


def find_profile_with_home(tx: Connection, shop_id: int) -> TaxProfile:
    """Return the shop's profile; a missing province is that of the shop at Shopify, if any."""
    profile = find_tax_profile(tx, shop_id)
    if profile.province:
        return profile
    at_shopify = tx.exec_driver_sql(_FIND_HOME, {"shop_id": shop_id}).scalar() or ""
    return replace(profile, province=at_shopify if _PROVINCE.fullmatch(at_shopify) else "")


def record_tax_profile(
    tx: Connection, shop_id: int, changes: Mapping[str, Any], *, now: datetime, by: str, request_id: str
) -> TaxProfile:
    """Apply ``changes`` (``province``, ``registered``, ``gst_number`` ...) to the shop's profile, audited.

    Other fields stay; equal values are neither written nor audited. Raises ``ProfileInvalid``.
    """
    before = tx.exec_driver_sql(f"{_FIND} for update", {"shop_id": shop_id}).scalar() or {}
    after = {**before, **changes}
    if faults := _find_faults(changes):
        raise ProfileInvalid(join_faults(faults))
    if after == before:
        return _from_stored(after)
    tx.exec_driver_sql(_RECORD, {"shop_id": shop_id, "tax": orjson.dumps(after).decode()})
    changed = sorted(name for name in after if before.get(name) != after[name])
    mutation = Mutation(
        "shop_config",
        str(shop_id),
        f"set {', '.join(changed)} of the tax profile",
        {name: before.get(name) for name in changed},
        {name: after[name] for name in changed},
    )
    entry = AuditEntry(shop_id, by, "shop.tax_profile", request_id, [mutation])
    append_all(tx, [entry], now)
    return _from_stored(after)


def _from_stored(stored: Mapping[str, Any]) -> TaxProfile:
    registered = stored.get("registered")
    numbers = {tax: str(stored[name]) for tax in TAXES if stored.get(name := f"{tax.lower()}_number")}
    return TaxProfile(
        province=stored.get("province", ""),
        numbers=MappingProxyType(numbers),
        registered=None if registered is None else frozenset(registered),
        pst_exempt=tuple(stored.get("pst_exempt") or ()),
    )


def _find_faults(changes: Mapping[str, Any]) -> list[str]:
    province = changes.get("province") or ""
    fault = find_place_fault(province) if province else ""
    faults = [f"province={province!r} {fault}"] if fault else []
    faults += [
        f"{name}={value!r} should be {wanted}"
        for tax, (pattern, wanted) in _NUMBERS.items()
        if (value := changes.get(name := f"{tax.lower()}_number")) and not pattern.fullmatch(value)
    ]
    faults += [
        f"pst_exempt {entry!r} should be type:, tag: or sku: and its text at Shopify, such as type:Bicycles"
        for entry in changes.get("pst_exempt") or ()
        if not _EXEMPT.fullmatch(entry)
    ]
    for entry in changes.get("registered") or ():
        tax, colon, where = entry.partition(":")
        if tax not in TAXES:
            faults.append(f"registered {describe_unknown(tax, TAXES)}; of one province: PST:CA-SK")
        elif colon and (fault := find_place_fault(where)):
            faults.append(f"registered {entry!r}: {where!r} {fault}")
    return faults
