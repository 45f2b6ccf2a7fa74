"""Remove a shop: its data is exported and deleted; what proves the past stays.

The row in ``shops`` stays with the mark ``shop_config.settings -> 'removed_at'``: the audit chain and the
closed months name the shop by its id. Every table with a ``shop_id`` is in ``KEPT`` or emptied of the shop.
``settings -> 'removed_rows'`` has the deleted rows by table until the last audit entry is written.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import orjson
from sqlalchemy import Connection

from services.audit.append import append_all
from services.audit.chain import AuditEntry, Mutation
from services.audit.queries import use_snapshot
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import InputInvalid
from services.core.files import make_private_folder, open_private
from services.core.pg_arrays import text_array
from services.core.settings import get_settings
from services.ledger.archive_keys import destroy_keys
from services.ledger.event_archive import ArchivedEvent, list_archives, open_lines, read_object
from services.ledger.filters import EventFilter
from services.privacy.store import list_exports
from services.privacy.subject import DataSubject
from services.providers.delivery import parse_object
from services.providers.object_store import open_store
from services.providers.registry import SECRET_KINDS, SOURCE_KINDS
from services.shops.shops import Shop

_BOOKS = "books of closed months, which the law requires"
_PROOF = "the audit chain, which proves what was done, this removal included"
_KEYS = "archive_keys"
_ARCHIVED = "archived events, which nobody can read any more: their keys are destroyed"
KEPT: Mapping[str, str] = {
    _KEYS: _ARCHIVED,
    "event_archives": _ARCHIVED,
    "audit_archives": _PROOF,
    "audit_checkpoints": _PROOF,
    "audit_events": _PROOF,
    "audit_verifications": _PROOF,
    "closed_periods": _BOOKS,
    "period_corrections": _BOOKS,
    "privacy_requests": "proof that customers' requests were answered; it names no person",
}
"""Why a table keeps the rows of a removed shop."""

_MARKED = ("shop_config", "shop_secrets")
"""Changed by ``mark_removed``."""

_FIRST = ("work_queue", "inbound_events")
"""Emptied first, so that no worker takes work of the shop meanwhile."""

WEBHOOKS_IGNORED_FOR = timedelta(days=30)
"""Late webhooks are verified and ignored for this long; Shopify's ``shop/redact`` comes 48 h after the app is
removed, and Stripe repeats a delivery for 3 days."""

_BATCH = 100_000

Progress = Callable[[str, int, int | None], None]

_LIST_TABLES = """
select c.table_name from information_schema.columns c join information_schema.tables t
       using (table_schema, table_name)
 where c.table_schema = 'public' and c.column_name = 'shop_id' and t.table_type = 'BASE TABLE'
 order by c.table_name
"""

_MARK = """
insert into shop_config as c (shop_id, settings)
values (%(shop_id)s, jsonb_build_object('removed_at', %(now)s::timestamptz, 'removed_rows', '{}'::jsonb))
on conflict (shop_id) do update
   set owner_email = '', accountant_email = '', last_daily_run = null, stock_owner = 'shopify',
       settings = excluded.settings
"""

_ADD_COUNT = """
update shop_config
   set settings = settings || jsonb_build_object('removed_rows', coalesce(settings -> 'removed_rows', '{}') ||
         jsonb_build_object(%(table)s::text,
           coalesce((settings #>> array['removed_rows', %(table)s])::bigint, 0) + %(count)s::bigint))
 where shop_id = %(shop_id)s
"""

_LOCK_COUNTS = "select settings -> 'removed_rows' from shop_config where shop_id = %(shop_id)s for update"

_DROP_COUNTS = "update shop_config set settings = settings - 'removed_rows' where shop_id = %(shop_id)s"

_IS_UNRECORDED = "select settings ? 'removed_rows' from shop_config where shop_id = %(shop_id)s"

_DELETE_SECRETS = """
delete from shop_secrets where shop_id = %(shop_id)s
   and not (name = any(%(names)s::text[]) or split_part(name, ':', 1) = any(%(sources)s::text[]))
"""

_END_SECRETS = "update shop_secrets set expires_at = %(until)s where shop_id = %(shop_id)s"

_OF_SHOP_FLOOR = dict.fromkeys(
    ("floor_orders", "order_stages", "stage_sets", "stage_transitions"),
    "select floor_forget(%(shop_id)s)",
)
"""Tables that the application's role may not write: the first statement empties all of them."""

OF_OTHER_KEYS = {
    "rate_limits": "delete from rate_limits where owner_id = %(shop_id)s",
    "request_counts": "delete from request_counts where shop = %(slug)s",
    "webhook_senders": "delete from webhook_senders where shop = %(slug)s",
}
"""Tables that name the shop by another column."""


def list_tables(tx: Connection) -> list[str]:
    """Return the tables whose rows of a removed shop are deleted, those of ``_FIRST`` first."""
    names = [name for name in tx.exec_driver_sql(_LIST_TABLES).scalars() if name not in (*KEPT, *_MARKED)]
    return sorted(names, key=lambda name: (name not in _FIRST, name))


def count_rows(tx: Connection, shop_id: int, tables: Sequence[str]) -> dict[str, int]:
    """Return the number of the shop's rows by table, without empty tables."""
    counts = {
        table: int(
            tx.exec_driver_sql(
                f"select count(*) from {table} where shop_id = %(shop_id)s",  # noqa: S608 - our own names
                {"shop_id": shop_id},
            ).scalar_one()
        )
        for table in tables
    }
    return {table: count for table, count in counts.items() if count}


def export_shop(shop: Shop, folder: Path, on_progress: Progress) -> dict[str, int]:
    """Write every row of the shop into ``folder``, a file of JSON lines for each table; return the counts.

    All files are of one moment; ``archived_events`` are those that are only in the archive store. Secrets are
    not exported. The folder is open to its owner alone; one with the export of another shop is refused.
    """
    manifest_file = make_private_folder(folder) / "manifest.json"
    if manifest_file.exists():
        other = (parse_object(manifest_file.read_bytes()) or {}).get("shop")
        if other != shop.slug:
            owner = f"the data of the shop {other}" if other else "a manifest.json of something else"
            raise InputInvalid(f"{folder} has {owner}: name another folder; nothing was changed")
    counts: dict[str, int] = {}

    def write(name: str, found: Iterable[Mapping[str, Any]]) -> None:
        with _create(folder / f"{name}.jsonl") as file:
            for number, row in enumerate(found, start=1):
                options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
                file.write(orjson.dumps(dict(row), default=_to_text, option=options))
                counts[name] = number
        on_progress("exported", sum(counts.values()), None)

    with transaction() as tx:
        use_snapshot(tx)
        for table in (*list_tables(tx), *(name for name in KEPT if name != _KEYS), "shop_config"):
            rows = tx.execution_options(yield_per=1000).exec_driver_sql(
                f"select * from {table} where shop_id = %(shop_id)s",  # noqa: S608 - our own names
                {"shop_id": shop.id},
            )
            write(table, map(dict, rows.mappings()))
        write("archived_events", _read_archived(tx, shop.id))
    manifest = {"shop": shop.slug, "name": shop.name, "rows": counts}
    with _create(manifest_file) as file:
        file.write(orjson.dumps(manifest, option=orjson.OPT_INDENT_2) + b"\n")
    return counts


@contextmanager
def _create(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file in place of any of this name; it is on the disk before a row is deleted."""
    path.unlink(missing_ok=True)
    with open(path, "xb", opener=open_private) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _read_archived(tx: Connection, shop_id: int) -> Iterator[Mapping[str, Any]]:
    store = open_store(get_settings().archive_url)
    for archive in list_archives(tx, EventFilter(shop_id=shop_id)):
        for event in open_lines(tx, shop_id, read_object(store, archive)):
            if isinstance(event, ArchivedEvent):
                yield event._asdict()


def mark_removed(tx: Connection, shop: Shop, now: datetime, *, by: str, request_id: str) -> None:
    """From the commit on no job is planned for the shop and its webhooks are verified and ignored."""
    webhook_names = [name for name, kind in SECRET_KINDS.items() if kind.is_webhook]
    sources = [prefix.removesuffix(":") for prefix in SOURCE_KINDS]
    values: dict[str, Any] = {"shop_id": shop.id, "now": now, "until": now + WEBHOOKS_IGNORED_FOR}
    tx.exec_driver_sql(_MARK, values)
    names = {"names": text_array(webhook_names), "sources": text_array(sources)}
    tx.exec_driver_sql(_DELETE_SECRETS, values | names)
    tx.exec_driver_sql(_END_SECRETS, values)
    mutation = Mutation("shops", str(shop.id), f"removed shop {shop.slug}: its data is being deleted")
    append_all(tx, [AuditEntry(shop.id, by, "shop.remove", request_id, [mutation])], now)


def is_unrecorded(tx: Connection, shop_id: int) -> bool:
    """Return whether a removal of the shop began and did not write its last audit entry."""
    return bool(tx.exec_driver_sql(_IS_UNRECORDED, {"shop_id": shop_id}).scalar())


def delete_rows(shop: Shop, now: datetime, on_progress: Progress) -> dict[str, int]:
    """Delete the shop's rows table by table, in batches that are committed with their count; return counts.

    Also destroys the keys of archived events, and deletes the files of customers' exports. It can be
    repeated, and then finds what came in meanwhile.
    """
    counts: Counter[str] = Counter()

    def add(tx: Connection, table: str, count: int) -> None:
        if count:
            tx.exec_driver_sql(_ADD_COUNT, {"shop_id": shop.id, "table": table, "count": count})
            counts[table] += count

    with transaction() as tx:
        tables = list_tables(tx)
        exports = list_exports(tx, DataSubject(shop_id=shop.id, whole_shop=True))
        add(tx, _KEYS, destroy_keys(tx, shop.id, None, now))
    if exports:
        store = open_store(get_settings().archive_url)
        for key in exports:
            store.delete(key)
    statements = {
        table: f"delete from {table} where ctid = any(array("  # noqa: S608 - our own names
        f"select ctid from {table} where shop_id = %(shop_id)s limit {_BATCH}))"
        for table in tables
    }
    statements |= _OF_SHOP_FLOOR | OF_OTHER_KEYS
    for table, statement in statements.items():
        while True:
            with transaction() as tx:
                count = tx.exec_driver_sql(statement, {"shop_id": shop.id, "slug": shop.slug}).rowcount
                add(tx, table, count)
            if not count:
                break
            on_progress("deleted", counts.total(), None)
    return counts


def record_removed(tx: Connection, shop: Shop, now: datetime, *, by: str, request_id: str) -> dict[str, int]:
    """Append what all runs deleted to the shop's audit chain, once; return the rows by table."""
    counts: dict[str, int] | None = tx.exec_driver_sql(_LOCK_COUNTS, {"shop_id": shop.id}).scalar_one()
    if counts is None:
        return {}
    tx.exec_driver_sql(_DROP_COUNTS, {"shop_id": shop.id})
    summary = f"deleted {format_count(sum(counts.values()), 'row')} of the removed shop {shop.slug}"
    mutations = [Mutation("shops", str(shop.id), summary, None, {"rows": dict(sorted(counts.items()))})]
    append_all(tx, [AuditEntry(shop.id, by, "shop.remove", request_id, mutations)], now)
    return counts


def _to_text(value: object) -> str:
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    return str(value)
