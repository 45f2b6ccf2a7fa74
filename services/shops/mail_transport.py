"""A shop's choice of mail transport and sender: read, check, change. See ``docs/mail.md``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from email.utils import getaddresses
from typing import Any

import orjson
from sqlalchemy import Connection

from services.audit.append import AuditEntry, Mutation, append_all
from services.core.counts import format_count
from services.core.errors import join_faults
from services.core.pg_arrays import int_array
from services.core.setting_urls import is_full_address
from services.core.settings import MAIL_TRANSPORTS
from services.providers.outgoing_mail import AddressInvalid, ascii_address, parse_sender
from services.shops.shops import Shop, ShopInvalid

OF_GRAPH = ("tenant_id", "client_id", "mailbox")
"""Fields that only Graph has, in addition to its secret."""

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DOMAIN = re.compile(r"(?=.{4,253}$)[A-Za-z0-9]([A-Za-z0-9-]*\.)+[A-Za-z]{2,63}")

_LOCK = "select id from shops where id = %(shop_id)s for no key update"

_FIND = """
select shop_id, settings -> 'mail' as mail from shop_config
 where shop_id = any(%(shop_id)s::int[]) and jsonb_typeof(settings -> 'mail') = 'object'
"""

_RECORD = """
insert into shop_config as c (shop_id, settings) values (%(shop_id)s, %(settings)s::jsonb)
on conflict (shop_id) do update set settings = (c.settings - 'mail') || excluded.settings
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailChoice:
    """A shop's mail settings without its secret; an empty field means the fleet's."""

    transport: str = ""
    sender: str = ""
    tenant_id: str = ""
    client_id: str = ""
    mailbox: str = ""

    @property
    def document(self) -> dict[str, str]:
        """The value of ``shop_config.settings -> 'mail'``."""
        return {name: value for name, value in asdict(self).items() if value}

    def __str__(self) -> str:
        name = self.transport or "the fleet's transport"
        name += f" (mailbox {self.mailbox})" if self.mailbox else ""
        return f"{name} as {self.sender}" if self.sender else name


def find_mail_choices(tx: Connection, shop_ids: Sequence[int]) -> dict[int, MailChoice]:
    """Return the choice of each shop that made one."""
    return {shop_id: _read(stored) for shop_id, stored in _find_stored(tx, shop_ids).items()}


def get_mail_choice(tx: Connection, shop_id: int, *, is_locked: bool = False) -> MailChoice:
    """Return the shop's choice, by default the fleet's. ``is_locked`` locks it until the commit."""
    if is_locked:
        tx.exec_driver_sql(_LOCK, {"shop_id": shop_id})
    return find_mail_choices(tx, [shop_id]).get(shop_id, MailChoice())


def plan_mail_choice(before: MailChoice, changes: Mapping[str, str]) -> MailChoice:
    """Return ``before`` with ``changes``. Another transport keeps the sender and drops Graph's fields."""
    wanted = {field: value.strip() for field, value in changes.items()}
    is_same = wanted.get("transport", before.transport) == before.transport
    return replace(before if is_same else MailChoice(sender=before.sender), **wanted)


def list_choice_faults(choice: MailChoice) -> list[str]:
    """Return all faults of ``choice``. Pure: the caller checks the secret."""
    faults = []
    if choice.transport and choice.transport not in MAIL_TRANSPORTS:
        faults.append(f"transport={choice.transport!r} should be one of {', '.join(MAIL_TRANSPORTS)}")
    if choice.sender and not _is_sender(choice.sender):
        faults.append(
            f"sender={choice.sender!r} should be an address, or like Harbour <mail@harbour.example> "
            "(a name with a comma in quotes)"
        )
    if choice.transport != "graph":
        unknown = [name for name in OF_GRAPH if getattr(choice, name)]
        return faults + [
            f"{name} is only for graph, and the transport is {choice.transport or MailChoice()}"
            for name in unknown
        ]
    if missing := [name for name in OF_GRAPH if not getattr(choice, name)]:
        faults.append(f"graph needs {', '.join(missing)} as well")
    if choice.tenant_id and not (_UUID.fullmatch(choice.tenant_id) or _DOMAIN.fullmatch(choice.tenant_id)):
        faults.append(
            f"tenant_id={_redact(choice.tenant_id)} should be the tenant's UUID or one of its domains"
        )
    if choice.client_id and not _UUID.fullmatch(choice.client_id):
        faults.append(f"client_id={_redact(choice.client_id)} should be the app's id, which is a UUID")
    if choice.mailbox and not _is_address(choice.mailbox):
        faults.append(f"mailbox={choice.mailbox!r} should be one mail address such as mail@harbour.example")
    return faults


def record_mail_choice(
    tx: Connection, shop: Shop, choice: MailChoice, *, now: datetime, by: str = "fleet", request_id: str = ""
) -> bool:
    """Record how the shop's mail is sent, from the next batch on; return whether that is a change.

    ``ShopInvalid`` names every fault. The audit has the choice before and after.
    """
    if faults := list_choice_faults(choice):
        raise ShopInvalid(join_faults(faults))
    tx.exec_driver_sql(_LOCK, {"shop_id": shop.id})
    stored = _find_stored(tx, [shop.id]).get(shop.id, {})
    if stored == choice.document:
        return False
    settings = {"mail": choice.document} if choice.document else {}
    tx.exec_driver_sql(_RECORD, {"shop_id": shop.id, "settings": orjson.dumps(settings).decode()})
    summary = f"mail of {shop.slug} is sent through {choice}; before, through {_read(stored)}"
    mutation = Mutation("shop_config", str(shop.id), summary, stored, choice.document)
    append_all(tx, [AuditEntry(shop.id, by, "shop.mail", request_id, [mutation])], now)
    return True


def _find_stored(tx: Connection, shop_ids: Sequence[int]) -> dict[int, dict[str, Any]]:
    found = tx.exec_driver_sql(_FIND, {"shop_id": int_array(shop_ids)})
    return {row.shop_id: row.mail for row in found}


def _read(stored: Mapping[str, Any]) -> MailChoice:
    return MailChoice(**{name: str(stored.get(name) or "") for name in asdict(MailChoice())})


def _is_sender(sender: str) -> bool:
    try:
        if not is_full_address(parse_sender(sender)[1]):
            return False
    except AddressInvalid:
        return False
    return sender.isprintable() and len(sender) <= 320 and len(getaddresses([sender])) == 1


def _is_address(address: str) -> bool:
    try:
        return is_full_address(ascii_address(address))
    except AddressInvalid:
        return False


def _redact(value: str) -> str:
    """Return the length of ``value``, not its text: it may be a secret, pasted by mistake."""
    return f"({format_count(len(value), 'character')})"
