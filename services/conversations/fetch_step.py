"""Topic ``interaction_fetch``: reads from Quo or Resend what an event announced and did not contain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from services.conversations.access import find_quo_key, find_resend_key, open_quo
from services.conversations.blocks import PARTS, render_parts
from services.conversations.parts import plan_parts
from services.conversations.payload import remove_zero_characters
from services.conversations.tables import interactions
from services.core.clock import utc_now
from services.core.errors import Refused, WorkError
from services.core.fields import find_object
from services.core.locks import lock_objects
from services.core.pg_arrays import find_by_key, upsert_rows
from services.core.settings import get_settings
from services.ledger.steps import SKIPPED
from services.ledger.work import Call, Done, FollowUp, Outcome, PreparedCall, WorkItem
from services.providers.mail_services import MAIL_UNKNOWN, ResendTransport
from services.providers.quo_api import NOT_FOUND

if TYPE_CHECKING:
    from services.providers.quo_api import Quo

_COLUMNS = tuple(interactions.columns.keys())
TEXT = "text"
_NEVER = ("absent", "failed")
"""The processing status of a part that Quo will not have."""


class InteractionFetchHandler:
    def prepare(self, tx: Connection, items: Sequence[WorkItem], now: datetime) -> Sequence[Call | Outcome]:
        """Return, per item, the call that reads what is missing; ``skipped`` if nothing is."""
        del now
        keys = {(item.shop_id, str(item.payload.get("subject", ""))) for item in items}
        rows = find_by_key(tx, interactions, keys)
        secrets = _find_keys(tx, {shop_id for shop_id, _ in keys})

        def plan(item: WorkItem) -> Call | Outcome:
            row = rows.get((item.shop_id, str(item.payload.get("subject", ""))))
            missing = list(list_missing(row)) if row else []
            if row is None or not missing:
                return Done(SKIPPED)
            key = secrets[item.shop_id, "resend" if missing == [TEXT] else "quo"]
            if key == "":
                return Done(SKIPPED)
            if isinstance(key, WorkError):
                return key
            if missing == [TEXT]:
                email_id = row["detail"]["object"]["email_id"]
                return PreparedCall(
                    item=item, act=partial(_fetch_mail, item, key, row["provider_id"], email_id)
                )
            return PreparedCall(item=item, act=partial(_fetch, item, key, row["provider_id"], missing))

        return [plan(item) for item in items]


def _find_keys(tx: Connection, shop_ids: set[int]) -> dict[tuple[int, str], str | WorkError]:
    """Return the keys by shop and name; empty without one, an error for one that does not open."""
    found: dict[tuple[int, str], str | WorkError] = {}
    for shop_id in shop_ids:
        for name, find in (("quo", find_quo_key), ("resend", find_resend_key)):
            try:
                found[shop_id, name] = find(tx, shop_id)
            except WorkError as fault:
                found[shop_id, name] = fault
    return found


def list_missing(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the parts of a call that an event announced and that have no content yet; ``TEXT`` of a mail."""
    detail = row["detail"]
    if row["kind"] == "mail" and not row["body"] and detail["object"].get("email_id"):
        yield TEXT
    if row["kind"] != "call":
        return
    base = detail.get("object")
    announced = {name for name in PARTS if name in detail}
    if isinstance(base, dict) and base.get("hasVoicemail"):
        announced.add("voicemail")
    rendered = render_parts(row)
    for name in sorted(announced):
        source = find_object(detail.get(name) or {}, "object")
        status = source.get("processingStatus") or source.get("status")
        if not rendered.get(name) and status not in _NEVER:
            yield name


def _fetch(item: WorkItem, key: str, call_id: str, missing: Sequence[str]) -> Outcome:
    quo = open_quo(key)
    found: dict[str, dict[str, Any]] = {}
    for names, read in _READS:
        if not set(names) & set(missing):
            continue
        try:
            found |= {name: part for name, part in read(quo, call_id).items() if part and name in missing}
        except Refused as fault:
            if fault.code != NOT_FOUND:
                raise
    if not found:
        return Done("absent")
    return Done("fetched", partial(_record, (item.shop_id, call_id), found))


def _fetch_mail(item: WorkItem, key: str, provider_id: str, email_id: str) -> Outcome:
    transport = ResendTransport(key, get_settings().resend_api_base)
    try:
        mail = transport.fetch_received(email_id)
    except Refused as fault:
        if fault.code == MAIL_UNKNOWN:
            return Done("absent")
        raise
    text = mail.get("text")
    if not isinstance(text, str) or not text.strip():
        return Done("absent")

    def record(tx: Connection) -> FollowUp:
        lock_objects(tx, {(item.shop_id, provider_id)})
        row = find_by_key(tx, interactions, {(item.shop_id, provider_id)}).get((item.shop_id, provider_id))
        if row is not None and not row["body"]:
            _store(tx, row | {"body": remove_zero_characters(text)})
        return FollowUp()

    return Done("fetched", record)


def _store(tx: Connection, row: Mapping[str, Any]) -> None:
    upsert_rows(tx, interactions, {name: [row[name]] for name in _COLUMNS})
    plan_parts(tx, [row], utc_now())


def _read_call(quo: "Quo", call_id: str) -> dict[str, dict[str, Any]]:
    call = quo.fetch_call(call_id)
    return {name: find_object(call, name) for name in ("summary", "voicemail")}


def _read_recordings(quo: "Quo", call_id: str) -> dict[str, dict[str, Any]]:
    return {"recording": {"recordings": quo.list_recordings(call_id)}}


def _read_transcripts(quo: "Quo", call_id: str) -> dict[str, dict[str, Any]]:
    """Return the transcripts of all recordings of the call as one dialogue."""
    dialogue = [line for one in quo.list_transcripts(call_id) for line in one.get("dialogue") or ()]
    return {"transcript": {"dialogue": dialogue} if dialogue else {}}


_READS: tuple[tuple[tuple[str, ...], Callable[["Quo", str], dict[str, dict[str, Any]]]], ...] = (
    (("summary", "voicemail"), _read_call),
    (("recording",), _read_recordings),
    (("transcript",), _read_transcripts),
)


def _record(key: tuple[int, str], found: Mapping[str, Mapping[str, Any]], tx: Connection) -> FollowUp:
    """Store the parts, unless an event brought their content meanwhile. A later event replaces them."""
    lock_objects(tx, {key})
    row = find_by_key(tx, interactions, {key}).get(key)
    if row is None:
        return FollowUp()
    present = render_parts(row)
    detail = dict(row["detail"])
    for name, source in found.items():
        if not present.get(name):
            at = row["occurred_at"].isoformat()
            detail[name] = {"type": f"fetched.{name}", "context": {}, "at": at, **(detail.get(name) or {}),
                            "object": dict(source)}  # fmt: skip
    _store(tx, row | {"detail": remove_zero_characters(detail)})
    return FollowUp()
