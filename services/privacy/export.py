"""Topic ``privacy_export``: write all data of a customer to a file, and mail it to the shop's owner."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents
from services.audit.chain import Entry, Mutation
from services.audit.store import ObjectExists, ObjectStore
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Refused, WorkError
from services.core.fields import Unreadable
from services.core.settings import get_settings
from services.ledger.work import Done, FollowUp, Outcome, PreparedCall, WorkItem
from services.mail.compose import compose
from services.mail.message import Attachment
from services.mail.outbox import record_mails
from services.privacy.holders import list_holders
from services.privacy.mail import PRIVACY_EXPORT_MAIL, plan_export_facts
from services.privacy.payload import PrivacyRequest, parse_privacy_request
from services.privacy.store import (
    PrivacyRequestRow,
    check_shop,
    export_key,
    find_subject,
    record_request,
    record_request_done,
)
from services.privacy.subject import Subject
from services.providers.object_store import open_store
from services.shops.shops import Shop, get_shop_by_id

LARGEST_ATTACHED = 5 * 1024 * 1024
UNREADABLE = "shopify.unreadable_privacy_request"
NO_OWNER = "privacy_export_no_owner"
"""Rule of the incident that the shop has no owner to mail."""


class ExportTask(NamedTuple):
    """One request, as ``act`` and ``record`` need it."""

    item: WorkItem
    request: PrivacyRequestRow
    subject: Subject
    shop: Shop
    contact: str


class PrivacyExport:
    """Exports customers. ``open_archive`` reaches the archive store; ``clock`` dates what was done."""

    def __init__(
        self, open_archive: Callable[[], ObjectStore] | None = None, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self._open_archive, self._clock = open_archive or open_the_archive, clock

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return the export of each item; each request gets a row with the day when it is due."""
        return [self._prepare_one(tx, item, now) for item in items]

    def _prepare_one(self, tx: Connection, item: WorkItem, now: datetime) -> PreparedCall | Outcome:
        try:
            requested = parse_privacy_request(item)
            check_shop(tx, item, requested)
        except Unreadable as fault:
            return Refused(fault.code or UNREADABLE, str(fault))
        if requested.customer_id is None:
            return Refused(UNREADABLE, f"the event's topic is {item.event_topic}: it asks for no export")
        request = record_request(tx, item, requested, now)
        if request.status == "done":
            return Done("duplicate")
        subject = find_subject(tx, item.shop_id, requested)
        task = ExportTask(item, request, subject, get_shop_by_id(tx, item.shop_id), _contact(requested))
        return PreparedCall(item=item, act=partial(self._export, task))

    def _export(self, task: ExportTask) -> Outcome:
        with transaction() as tx:
            kept = gather(tx, task.subject, task.shop.zone)
        key = export_key(task.shop.id, task.request.id)
        count = sum(len(place["rows"]) for place in kept)
        try:
            data = _store_once(self._open_archive(), key, self._document(task, kept))
        except WorkError as fault:
            return fault
        return Done("exported", partial(self._record, task, key, data, count))

    def _document(self, task: ExportTask, kept: list[dict[str, Any]]) -> bytes:
        zone = task.shop.zone
        document = {
            "what": f"what is kept of customer {task.subject.customer_id} for {task.shop.name}",
            "times": f"in the shop's zone, {task.shop.timezone}; fields that end in _cents are minor units",
            "asked_at": task.request.received_at.astimezone(zone),
            "made_at": self._clock().astimezone(zone),
            "kept": kept,
        }
        # A body may have half a surrogate pair, which is written as a JSON escape.
        text = json.dumps(document, default=_as_text, ensure_ascii=False, indent=1)
        return text.encode("utf-8", "backslashreplace")

    def _record(self, task: ExportTask, key: str, data: bytes, count: int, tx: Connection) -> FollowUp:
        now = self._clock()
        item, shop, request = task.item, task.shop, task.request
        number = task.subject.customer_id or 0
        fits = len(data) < LARGEST_ATTACHED
        new_work = []
        if shop.owner_email:
            file = Attachment(name=f"customer-{number}.json", content_type="application/json", content=data)
            mail = compose(
                PRIVACY_EXPORT_MAIL,
                plan_export_facts(
                    customer_id=number,
                    contact=task.contact,
                    count=count,
                    received_at=request.received_at,
                    due_at=request.due_at,
                    file=file.name,
                    lies="" if fits else key,
                ),
                shop=shop,
                recipient=shop.owner_email,
                period=f"request-{request.id}",
                attachments=(file,) if fits else (),
            )
            new_work = record_mails(tx, [mail], now, request_id=item.request_id)
        else:
            record_incidents(tx, [_describe_no_owner(task, key)], now)
        result = {"key": key, "bytes": len(data), "records": count, "owner_told": bool(shop.owner_email)}
        record_request_done(tx, request.id, result, now)
        mutation = Mutation(
            "privacy_requests",
            str(request.id),
            f"customer {number} exported: {count} records, {len(data)} bytes",
            {"status": "open"},
            {"status": "done", "bytes": len(data), "records": count},
        )
        entry = Entry(item.shop_id, "shopify webhook", "privacy.export", item.request_id, [mutation], item.id)
        return FollowUp(new_work, [entry])


def gather(tx: Connection, subject: Subject, zone: ZoneInfo) -> list[dict[str, Any]]:
    """Return all data of the subject, holder by holder; ``rows`` is empty where a holder has none."""
    return [
        {
            "where": holder.name,
            "tables": [table.replace("_", " ") for table in holder.tables],
            "rows": [_in_zone(row, zone) for row in holder.find(tx, subject)],
        }
        for holder in sorted(list_holders(), key=lambda holder: holder.name)
    ]


def open_the_archive() -> ObjectStore:
    """Return the archive store of the settings."""
    return open_store(get_settings().archive_url)


def _store_once(store: ObjectStore, key: str, data: bytes) -> bytes:
    """Store ``data``; return what is stored: the data of an earlier try, if that got so far."""
    try:
        store.put(key, data)
    except ObjectExists:
        return store.get(key)
    return data


def _in_zone(row: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    return {
        name: value.astimezone(zone) if isinstance(value, datetime) else value for name, value in row.items()
    }


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _contact(requested: PrivacyRequest) -> str:
    return ", ".join(sorted(requested.emails))


def _describe_no_owner(task: ExportTask, key: str) -> Incident:
    slug, number = task.shop.slug, task.subject.customer_id
    return Incident(
        task.shop.id,
        NO_OWNER,
        f"request-{task.request.id}",
        "P2",
        f"the data of customer {number} lies at {key} and the shop has no owner_email: hand it over by "
        f"{task.request.due_at:%Y-%m-%d}, and run `fleet shops set {slug} --owner-email ADDRESS`",
        {"key": key, "customer_id": number, "request": task.request.id},
    )
