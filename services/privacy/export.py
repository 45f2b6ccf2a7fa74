"""Topic ``privacy_export``: write all data of a customer to a file, and mail it to the shop's owner."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from services.alerts.incidents import Incident, record_incidents
from services.audit.chain import Mutation
from services.audit.queries import use_snapshot
from services.audit.store import ObjectExists
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.settings import get_settings
from services.ledger.work import Done, FollowUp, Outcome
from services.mail.compose import compose_mail
from services.mail.message import Attachment, MailType
from services.mail.outbox import record_mails
from services.privacy.data_sources import list_data_sources
from services.privacy.handler import PrivacyHandler, PrivacyTask
from services.privacy.store import export_key, record_request_done
from services.privacy.subject import DataSubject
from services.providers.object_store import open_store
from services.shops.shops import Shop, get_shop_by_id

LARGEST_ATTACHED = 5 * 1024 * 1024
NO_OWNER = "privacy_export_no_owner"
"""Rule of the incident that the shop has no owner to mail."""


def _sample(_shop: Shop | None, now: datetime) -> Mapping[str, Any]:
    """Return the template's context. ``stored_at`` is the key of a file that is too large to attach."""
    received_at = now.astimezone(UTC) - timedelta(minutes=4)
    return {
        "customer_id": "191167",
        "contact": "john@example.com",
        "count": 14,
        "received_at": received_at,
        "due_at": received_at + timedelta(days=30),
        "file": "customer-191167.json",
        "stored_at": "",
    }


PRIVACY_EXPORT_MAIL = MailType(
    name="privacy_export",
    package="services.privacy",
    about="the stored data of a customer who requested it",
    reader="shop owner",
    why="You get this because a customer requested their data. One mail for each request.",
    sample=_sample,
)


class PrivacyExportHandler(PrivacyHandler):
    kinds = ("export",)

    def act(self, task: PrivacyTask) -> Outcome:
        """Store the customer's data; a retry after a crash sends the file that is stored already."""
        with transaction() as tx:
            use_snapshot(tx)  # an event that is archived meanwhile is in one of the two places
            shop = get_shop_by_id(tx, task.item.shop_id)
            kept = _gather(tx, task.subject, shop.zone)
        key = export_key(shop.id, task.row.id)
        data = _format_document(task, shop, kept)
        store = open_store(get_settings().archive_url)
        try:
            store.put(key, data)
        except ObjectExists:
            data = store.get(key)
        count = sum(len(place["rows"]) for place in kept)
        return Done("exported", partial(_record, task, shop, key, data, count))


def _gather(tx: Connection, subject: DataSubject, zone: ZoneInfo) -> list[dict[str, Any]]:
    """Return all data of the subject by source; ``rows`` is empty if a source has none."""
    return [
        {
            "where": source.name,
            "tables": [table.replace("_", " ") for table in source.tables],
            "rows": [_in_zone(row, zone) for row in source.find(tx, subject)],
        }
        for source in sorted(list_data_sources(), key=lambda source: source.name)
    ]


def _in_zone(row: Mapping[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    return {
        name: value.astimezone(zone) if isinstance(value, datetime) else value for name, value in row.items()
    }


def _format_document(task: PrivacyTask, shop: Shop, kept: list[dict[str, Any]]) -> bytes:
    document = {
        "what": f"what is kept of customer {task.subject.customer_id} for {shop.name}",
        "times": f"in the shop's zone, {shop.timezone}; fields that end in _cents are minor units",
        "asked_at": task.row.received_at.astimezone(shop.zone),
        "made_at": utc_now().astimezone(shop.zone),
        "kept": kept,
    }
    # A body may contain half a surrogate pair, which is written as a JSON escape.
    text = json.dumps(document, default=_as_text, ensure_ascii=False, indent=1)
    return text.encode("utf-8", "backslashreplace")


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _record(task: PrivacyTask, shop: Shop, key: str, data: bytes, count: int, tx: Connection) -> FollowUp:
    now = utc_now()
    number = task.subject.customer_id
    new_work = []
    if shop.owner_email:
        file = Attachment(name=f"customer-{number}.json", content_type="application/json", content=data)
        fits = len(data) < LARGEST_ATTACHED
        mail = compose_mail(
            PRIVACY_EXPORT_MAIL,
            {
                "customer_id": str(number),
                "contact": ", ".join(sorted(task.requested.emails)),
                "count": count,
                "received_at": task.row.received_at,
                "due_at": task.row.due_at,
                "file": file.name,
                "stored_at": "" if fits else key,
            },
            shop=shop,
            recipient=shop.owner_email,
            period=f"request-{task.row.id}",
            attachments=(file,) if fits else (),
        )
        new_work = record_mails(tx, [mail], now, request_id=task.item.request_id)
    else:
        record_incidents(tx, [_describe_no_owner(task, shop, key)], now)
    result = {"key": key, "bytes": len(data), "records": count, "owner_told": bool(shop.owner_email)}
    record_request_done(tx, task.row.id, result, now)
    mutation = Mutation(
        "privacy_requests",
        str(task.row.id),
        f"customer {number} exported: {format_count(count, 'record')}, {format_count(len(data), 'byte')}",
        {"status": "open"},
        {"status": "done", "bytes": len(data), "records": count},
    )
    return FollowUp(new_work, [task.make_entry("privacy.export", [mutation])])


def _describe_no_owner(task: PrivacyTask, shop: Shop, key: str) -> Incident:
    number = task.subject.customer_id
    return Incident(
        shop.id,
        NO_OWNER,
        f"request-{task.row.id}",
        "P2",
        f"the data of customer {number} is stored at {key}, and the shop has no owner_email: hand it over by "
        f"{task.row.due_at:%Y-%m-%d}, and run `fleet shops set {shop.slug} --owner-email ADDRESS`",
        {"key": key, "customer_id": number, "request": task.row.id},
    )
