"""Topic ``privacy_redact``: remove a customer from all tables. Orders and payments stay, without the person.

The audit has only the customer's number, so it is redacted by reference.
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
from services.privacy.holders import list_holders
from services.privacy.payload import parse_privacy_request
from services.privacy.store import (
    PrivacyRequestRow,
    check_shop,
    find_exports,
    find_subject,
    is_confirmed,
    is_done_replay,
    record_request,
    record_request_done,
)
from services.privacy.subject import Holder, Subject
from services.privacy.unconfirmed import RULE
from services.shopify.shop_profile import UNCONFIRMED
from services.shopify.uninstall import check_uninstalled


class RedactionTask(NamedTuple):
    item: WorkItem
    request: PrivacyRequestRow
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
        """Return the redaction of each item; each request gets a row with the day when it is due."""
        return [self._prepare_one(tx, item, now) for item in items]

    def _prepare_one(self, tx: Connection, item: WorkItem, now: datetime) -> PreparedCall | Outcome:
        try:
            requested = parse_privacy_request(item)
            check_shop(tx, item, requested)
        except Unreadable as fault:
            return Refused(fault.code or UNREADABLE, str(fault))
        if requested.kind == "export":
            return Refused(UNREADABLE, f"the event's topic is {item.event_topic}: it asks for no redaction")
        if requested.customer_id is None and is_done_replay(tx, item):
            return Done("duplicate")
        request = record_request(tx, item, requested, now)
        if request.status == "done":
            return Done("duplicate")
        subject = find_subject(tx, item.shop_id, requested)
        may_erase = not subject.whole_shop or is_confirmed(tx, item.shop_id, request.id)
        task = RedactionTask(item, request, subject, find_exports(tx, subject), may_erase)
        return PreparedCall(item=item, act=partial(self._redact, task))

    def _redact(self, task: RedactionTask) -> Outcome:
        """Remove the person from the store and from every holder; a try after a crash does the rest.

        Rows that identify the person are redacted last, in one transaction, so that such a try can still find
        the person. A whole shop is erased only after a confirmation: by a person, or by Shopify, which says
        that our app is uninstalled.
        """
        try:
            if not task.may_erase and not self._is_uninstalled(task.item.shop_id):
                return Refused(UNCONFIRMED, _how_to_confirm(task.request))
            self._delete_exports(task.exports)
        except WorkError as fault:
            return fault
        holders = list_holders()
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

    def _record(self, task: RedactionTask, counts: Mapping[str, int], tx: Connection) -> FollowUp:
        item, request = task.item, task.request
        exports = len(task.exports)
        now = self._clock()
        record_request_done(tx, request.id, {"rows": dict(counts), "exports": exports}, now)
        if task.subject.whole_shop:
            resolve_incident(tx, item.shop_id, RULE, str(request.id), now, "The shop is erased.")
        who = f"customer {task.subject.customer_id}" if task.subject.customer_id else "the whole shop"
        mutations = [
            Mutation(table, who, f"{who} redacted: {_rows(count)}", None, {"rows": count})
            for table, count in sorted(counts.items())
            if count
        ]
        total = sum(counts.values())
        summary = f"{who} redacted: {_rows(total)}, {exports} export{'' if exports == 1 else 's'} deleted"
        after = {"status": "done", "rows": total, "exports": exports}
        mutations.append(Mutation("privacy_requests", str(request.id), summary, {"status": "open"}, after))
        entry = Entry(item.shop_id, "shopify webhook", "privacy.redact", item.request_id, mutations, item.id)
        return FollowUp((), [entry])


def _how_to_confirm(request: PrivacyRequestRow) -> str:
    return (
        "Shopify does not confirm that our app is uninstalled, so nothing was erased: if the shop left, "
        f"`fleet privacy confirm {request.id} --reason TEXT` by {request.due_at:%Y-%m-%d}"
    )


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"
