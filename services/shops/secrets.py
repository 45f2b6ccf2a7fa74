"""A shop's sealed secrets: the current value, and the previous one while it is still valid.

A retired secret has the prefix ``retired:`` in its name, so that queries for current and previous ones do not
find it. It stays sealed for some days, so that a mistake can be undone, and is then deleted.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, or_, select, update

from services.audit.append import AuditEntry, Mutation, append_all
from services.core.crypto import SealBroken, Sealer, get_sealer
from services.core.pg_arrays import int_array, text_array
from services.core.times import format_time
from services.providers.provider import SecretInvalid
from services.providers.registry import SECRET_KINDS, SOURCE_KINDS, get_secret_kind
from services.shops.tables import shop_secrets, shops

SECRETS_KEPT = timedelta(days=7)
"""How long a retired secret stays, sealed and unused."""

_FIND_CURRENT = """
select distinct on (s.shop_id, s.name) s.shop_id, s.name, s.sealed
  from unnest(%(shop_id)s::int[], %(name)s::text[]) as v(shop_id, name)
  join shop_secrets s on s.shop_id = v.shop_id and s.name = v.name and s.expires_at is null
 order by s.shop_id, s.name, s.id desc
"""

# The stored expiry belongs to the replaced token.
_DELETE_EXPIRY = """
update connections set token_expires_at = null
 where shop_id = %(shop_id)s and provider = 'shopify' and token_expires_at is not null
"""

_FIND_PREVIOUS = """
select sealed from shop_secrets
 where shop_id = %(shop_id)s and name = %(name)s and expires_at > %(now)s order by id desc limit 1
"""

_FIND_SINCE = """
select max(created_at) from shop_secrets
 where shop_id = %(shop_id)s and name = any(%(name)s::text[]) and expires_at is null
"""

_RETIRE = """
update shop_secrets set name = 'retired:' || name, expires_at = %(until)s
 where shop_id = %(shop_id)s and name not like 'retired:%%'
   and (%(name)s::text[] is null or name = any(%(name)s::text[]))
returning substr(name, 9)
"""

# The newest of its name, if no current one was recorded since.
_RESTORE = """
update shop_secrets set name = %(name)s, expires_at = null
 where id = (select max(id) from shop_secrets
              where shop_id = %(shop_id)s and name = 'retired:' || %(name)s and expires_at > %(now)s)
   and not exists (select from shop_secrets
                    where shop_id = %(shop_id)s and name = %(name)s and expires_at is null)
returning id
"""

# Those of a removed shop verify its late webhooks for a while, and nothing replaces them.
_DELETE = """
delete from shop_secrets k
 where expires_at <= %(now)s and (name like 'retired:%%' or exists (
       select from shop_config c where c.shop_id = k.shop_id and c.settings ? 'removed_at'))
"""


@dataclass(frozen=True, slots=True)
class WebhookKey:
    """The secrets that verify one shop's webhooks of one sender, current first, each with expiry and row id.

    ``is_unreadable``: a stored secret did not open (a lost ``SECRET_KEY``). Then the ingress answers a
    signature that matches none of ``values`` with 503 and not 401, so that the provider tries again.
    """

    slug: str
    shop_id: int
    name: str
    values: tuple[str, ...] = field(repr=False)
    expires: tuple[datetime | None, ...]
    ids: tuple[int, ...]
    is_unreadable: bool = False

    def live_values(self, now: datetime) -> tuple[str, ...]:
        """Return the values that are valid at ``now``, current first."""
        pairs = zip(self.values, self.expires, strict=True)
        return tuple(value for value, expires in pairs if expires is None or expires > now)


def record_secret(
    tx: Connection,
    shop_id: int,
    name: str,
    value: str,
    now: datetime,
    keep_previous: timedelta | None = None,
    *,
    by: str = "fleet",
    request_id: str = "",
    sealer: Sealer | None = None,
) -> bool:
    """Make ``value`` the current secret; the replaced one stays valid for ``keep_previous``.

    The default depends on the kind: 24 h for webhook secrets, 0 for tokens. Values older than the previous
    one are deleted. Returns False, and changes nothing, if ``value`` is current already.
    """
    kind = get_secret_kind(name)
    value = kind.parse(value)
    keep = kind.keep_previous if keep_previous is None else keep_previous
    if keep < timedelta(0):
        raise SecretInvalid(f"keep_previous={keep.total_seconds():g} s should not be negative")
    # Two rotations happen one after the other.
    if tx.scalar(select(shops.c.id).where(shops.c.id == shop_id).with_for_update()) is None:
        raise SecretInvalid(f"there is no shop with the id {shop_id}")
    opener = sealer or get_sealer()
    try:
        current = get_secret(tx, shop_id, kind.name, sealer=opener)
    except SealBroken:
        current, keep = None, timedelta(0)  # an unreadable value is not kept
    if current == value:
        return False

    of_name = (shop_secrets.c.shop_id == shop_id) & (shop_secrets.c.name == kind.name)
    is_current = shop_secrets.c.expires_at.is_(None)
    tx.execute(delete(shop_secrets).where(of_name, *([~is_current] if keep else [])))
    tx.execute(update(shop_secrets).where(of_name, is_current).values(expires_at=now + keep))
    sealed = opener.seal(value.encode(), _context(shop_id, kind.name))
    tx.execute(insert(shop_secrets).values(shop_id=shop_id, name=kind.name, sealed=sealed, created_at=now))
    if kind.name == "shopify-token":
        tx.exec_driver_sql(_DELETE_EXPIRY, {"shop_id": shop_id})
    replaced = current is not None and bool(keep)
    summary = f"recorded {kind.name}" + (
        f"; the previous one is valid until {format_time(now + keep)}" if replaced else ""
    )
    mutation = Mutation("shop_secrets", f"{shop_id}/{kind.name}", summary)
    append_all(tx, [AuditEntry(shop_id, by, "shop.secret", request_id, [mutation])], now)
    return True


def get_secret(tx: Connection, shop_id: int, name: str, *, sealer: Sealer | None = None) -> str | None:
    """Return the current value, or None; raise ``SealBroken`` if it does not open."""
    pair = (shop_id, get_secret_kind(name).name)
    value = find_secrets(tx, [pair], sealer=sealer).get(pair)
    if isinstance(value, SealBroken):
        raise value
    return value


def find_secrets(
    tx: Connection, wanted: Sequence[tuple[int, str]], *, sealer: Sealer | None = None
) -> dict[tuple[int, str], str | SealBroken]:
    """Return the current values of the (shop, name) pairs that have one, in one query.

    A value that does not open is returned as ``SealBroken``, so that the others are still found.
    """
    if not wanted:
        return {}
    scope = {"shop_id": int_array(s for s, _ in wanted), "name": text_array([n for _, n in wanted])}
    opener = sealer or get_sealer()
    found: dict[tuple[int, str], str | SealBroken] = {}
    for shop_id, name, sealed in tx.exec_driver_sql(_FIND_CURRENT, scope):
        try:
            found[shop_id, name] = opener.open(bytes(sealed), _context(shop_id, name)).decode()
        except SealBroken as fault:
            found[shop_id, name] = fault
    return found


def find_previous_secret(tx: Connection, shop_id: int, name: str, now: datetime) -> str | None:
    """Return the replaced value while it is valid, or None, also for one that does not open."""
    values = {"shop_id": shop_id, "name": name, "now": now}
    sealed = tx.exec_driver_sql(_FIND_PREVIOUS, values).scalar()
    try:
        return sealed and get_sealer().open(bytes(sealed), _context(shop_id, name)).decode()
    except SealBroken:
        return None


def list_webhook_keys(tx: Connection) -> list[WebhookKey]:
    """Return the webhook secrets of every shop that has one, in one query.

    Call ``live_values`` for each request, so that a previous secret ends on time between two queries.
    """
    webhook_names = [kind.name for kind in SECRET_KINDS.values() if kind.is_webhook]
    by_source = [shop_secrets.c.name.startswith(prefix) for prefix in SOURCE_KINDS]
    rows = tx.execute(
        select(shops.c.slug, shop_secrets)
        .join_from(shop_secrets, shops, shops.c.id == shop_secrets.c.shop_id)
        .where(or_(shop_secrets.c.name.in_(webhook_names), *by_source), _is_valid_at(func.now()))
        .order_by(shop_secrets.c.shop_id, shop_secrets.c.name, shop_secrets.c.id.desc())
    )
    groups = groupby(rows, key=lambda row: (row.slug, row.shop_id, row.name))
    return [_open_key(*key, group) for key, group in groups]


def list_secret_states(tx: Connection, shop_id: int, now: datetime) -> Sequence[Any]:
    """Return names and times of the shop's secrets by name, without opening any.

    The columns: ``name, recorded_at, previous_until, used_at, previous_used_at`` (of the replaced one).
    A retired one has the prefix ``retired:``, and is deleted at ``previous_until``.
    """
    is_current = shop_secrets.c.expires_at.is_(None)
    used_at = func.max(shop_secrets.c.last_used_at)
    return tx.execute(
        select(
            shop_secrets.c.name,
            func.max(shop_secrets.c.created_at).label("recorded_at"),
            func.max(shop_secrets.c.expires_at).label("previous_until"),
            used_at.filter(is_current).label("used_at"),
            used_at.filter(~is_current).label("previous_used_at"),
        )
        .where(shop_secrets.c.shop_id == shop_id, _is_valid_at(now))
        .group_by(shop_secrets.c.name)
        .order_by(shop_secrets.c.name)
    ).all()


def _is_valid_at(now: Any) -> ColumnElement[bool]:
    return or_(shop_secrets.c.expires_at.is_(None), shop_secrets.c.expires_at > now)


def _open_key(slug: str, shop_id: int, name: str, versions: Iterable[Row[Any]]) -> WebhookKey:
    opened: dict[str, Row[Any]] = {}
    is_unreadable = False
    for row in versions:
        try:
            value = get_sealer().open(bytes(row.sealed), _context(shop_id, name)).decode()
        except SealBroken:
            is_unreadable = True  # the other secrets must load
        else:
            opened.setdefault(value, row)
    expires, ids = (tuple(getattr(row, column) for row in opened.values()) for column in ("expires_at", "id"))
    return WebhookKey(slug, shop_id, name, tuple(opened), expires, ids, is_unreadable)


def _context(shop_id: int, name: str) -> str:
    return f"shop/{shop_id}/{name}"


def find_recorded_at(tx: Connection, shop_id: int, names: Collection[str]) -> datetime | None:
    """Return when the newest current secret of ``names`` was recorded, or None."""
    values = {"shop_id": shop_id, "name": text_array(list(names))}
    found: datetime | None = tx.exec_driver_sql(_FIND_SINCE, values).scalar()
    return found


def retire_secrets(tx: Connection, shop_id: int, names: Collection[str] | None, now: datetime) -> list[str]:
    """Retire the shop's secrets of ``names`` (None: all); return the name of each row."""
    values = {
        "shop_id": shop_id,
        "name": None if names is None else text_array(list(names)),
        "until": now + SECRETS_KEPT,
    }
    return sorted(str(name) for name in tx.exec_driver_sql(_RETIRE, values).scalars())


def restore_secret(
    tx: Connection, shop_id: int, name: str, now: datetime, *, by: str, request_id: str
) -> bool:
    """Make the newest retired secret of ``name`` current again; return False if there is none."""
    values = {"shop_id": shop_id, "name": name, "now": now}
    if tx.exec_driver_sql(_RESTORE, values).scalar() is None:
        return False
    mutation = Mutation("shop_secrets", f"{shop_id}/{name}", f"restored the retired {name}")
    append_all(tx, [AuditEntry(shop_id, by, "shop.secret", request_id, [mutation])], now)
    return True


def delete_retired_secrets(tx: Connection, now: datetime) -> int:
    """Delete the secrets that were retired ``SECRETS_KEPT`` ago, and expired ones of removed shops."""
    return tx.exec_driver_sql(_DELETE, {"now": now}).rowcount
