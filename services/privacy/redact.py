"""Topic ``privacy_redact``: nothing here knows a person any more. Orders and money stay, of nobody.

The audit names a customer by number only, so what the number points to is redacted there by reference.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import NamedTuple

from sqlalchemy import Connection

from services.alerts.incidents import resolve_incident
from services.audit.chain import Entry, Mutation
from services.audit.store import ObjectStore
from services.core.clock import utc_now
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused, WorkError
from services.core.fields import Unreadable
from services.ledger.work import Done, FollowUp, Outcome, PreparedCall, WorkItem
from services.privacy.export import UNREADABLE, open_the_archive
from services.privacy.holders import Holder, Subject, find_holders
from services.privacy.payload import read_asked
from services.privacy.store import (
    Request,
    check_shop,
    find_exports,
    find_subject,
    is_confirmed,
    is_done_replay,
    record_request,
    record_request_done,
)
from services.privacy.unconfirmed import RULE
from services.shopify.shop_identity import UNCONFIRMED
from services.shopify.uninstall import check_uninstalled


class _Task(NamedTuple):
    item: WorkItem
    request: Request
    subject: Subject
    exports: Sequence[str]
    may_erase: bool


class PrivacyRedact:
    """Redacts customers and whole shops.

    ``open_archive`` reaches the store of exports; ``check`` asks Shopify whether our app is uninstalled.
    """

    def __init__(
        self,
        open_archive: Callable[[], ObjectStore] = open_the_archive,
        clock: Callable[[], datetime] = utc_now,
        check: Callable[[int], bool] = check_uninstalled,
    ) -> None:
        self._open_archive, self._clock, self._check = open_archive, clock, check

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return, per item, its redaction; the request has its row from now on, with the day it is due."""
        return [self._prepare_one(tx, item, now) for item in items]

    def _prepare_one(self, tx: Connection, item: WorkItem, now: datetime) -> PreparedCall | Outcome:
        try:
            asked = read_asked(item)
            check_shop(tx, item, asked)
        except Unreadable as fault:
            return Refused(fault.code or UNREADABLE, str(fault))
        if asked.kind == "export":
            return Refused(UNREADABLE, f"the event's topic is {item.event_topic}: it asks for no redaction")
        if asked.customer_id is None and is_done_replay(tx, item):
            return Done("duplicate")
        request = record_request(tx, item, asked, now)
        if request.status == "done":
            return Done("duplicate")
        subject = find_subject(tx, item.shop_id, asked)
        may_erase = not subject.whole_shop or is_confirmed(tx, item.shop_id, request.id)
        task = _Task(item, request, subject, find_exports(tx, subject), may_erase)
        return PreparedCall(item=item, act=partial(self._redact, task))

    def _redact(self, task: _Task) -> Outcome:
        """Take the person out of the store and of every holder; a try after a crash does the rest.

        What says who the person is goes last and at once, or that try would not know whom to look for. A
        whole shop is erased only after a confirmation: a person's, or Shopify's that our app is uninstalled.
        """
        try:
            if not task.may_erase and not self._is_uninstalled(task.item.shop_id):
                return Refused(UNCONFIRMED, _how_to_confirm(task.request))
            self._delete_exports(task.exports)
        except WorkError as fault:
            return fault
        holders = find_holders()
        if task.subject.whole_shop:
            counts = self._redact_shop(holders, task.subject)
        else:
            counts = self._redact_customer(holders, task.subject)
        return Done("redacted", partial(self._record, task, counts))

    def _is_uninstalled(self, shop_id: int) -> bool:
        try:
            return self._check(shop_id)
        except Misconfigured:
            return False

    def _redact_customer(self, holders: Sequence[Holder], subject: Subject) -> Counter[str]:
        counts: Counter[str] = Counter()
        for holder in holders:
            if not holder.knows_subject:
                with transaction() as tx:
                    counts.update(holder.redact(tx, subject, self._clock()))
        with transaction() as tx:
            for holder in holders:
                if holder.knows_subject:
                    counts.update(holder.redact(tx, subject, self._clock()))
        return counts

    def _redact_shop(self, holders: Sequence[Holder], subject: Subject) -> Counter[str]:
        counts: Counter[str] = Counter()
        for holder in holders:
            changed = True
            while changed:
                with transaction() as tx:
                    piece = holder.redact(tx, subject, self._clock())
                counts.update(piece)
                changed = any(piece.values())
        return counts

    def _delete_exports(self, keys: Sequence[str]) -> None:
        if keys:
            store = self._open_archive()
            for key in keys:
                store.delete(key)

    def _record(self, task: _Task, counts: Mapping[str, int], tx: Connection) -> FollowUp:
        item, request = task.item, task.request
        exports = len(task.exports)
        now = self._clock()
        record_request_done(tx, request.id, {"rows": dict(counts), "exports": exports}, now)
        if task.subject.whole_shop:
            resolve_incident(tx, item.shop_id, RULE, str(request.id), now, "The shop is erased.")
        who = f"customer {task.subject.customer_id}" if task.subject.customer_id else "the whole shop"
        said = [
            Mutation(table, who, f"{who} redacted: {_rows(count)}", None, {"rows": count})
            for table, count in sorted(counts.items())
            if count
        ]
        total = sum(counts.values())
        summary = f"{who} redacted: {_rows(total)}, {exports} export{'' if exports == 1 else 's'} deleted"
        after = {"status": "done", "rows": total, "exports": exports}
        said.append(Mutation("privacy_requests", str(request.id), summary, {"status": "open"}, after))
        entry = Entry(item.shop_id, "shopify webhook", "privacy.redact", item.request_id, said, item.id)
        return FollowUp((), [entry])


def _how_to_confirm(request: Request) -> str:
    return (
        "Shopify does not confirm that our app is uninstalled, so nothing was erased: if the shop left, "
        f"`fleet privacy confirm {request.id} --reason TEXT` by {request.due_at:%Y-%m-%d}"
    )


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"
