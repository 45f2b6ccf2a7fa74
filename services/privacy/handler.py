"""Topics ``privacy_redact`` and ``privacy_export``: their shared preparation of a request."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row

from services.audit.chain import AuditEntry, Mutation
from services.core.errors import Refused
from services.core.fields import Unreadable
from services.ledger.work import Done, Outcome, PreparedCall, WorkItem
from services.privacy.payload import PrivacyRequest, parse_privacy_request
from services.privacy.store import check_shop, find_subject, is_done_replay, record_request
from services.privacy.subject import DataSubject

UNREADABLE = "shopify.unreadable_privacy_request"


class PrivacyTask(NamedTuple):
    """A request to work on; ``row`` is its row of ``privacy_requests``."""

    item: WorkItem
    requested: PrivacyRequest
    row: Row[Any]
    subject: DataSubject

    def make_entry(self, action: str, mutations: Sequence[Mutation]) -> AuditEntry:
        """Return the audit entry of the finished request."""
        item = self.item
        return AuditEntry(item.shop_id, "shopify webhook", action, item.request_id, mutations, item.id)


class PrivacyHandler:
    """Handles the requests of the ``kinds``; ``act`` is called with no transaction open."""

    kinds: tuple[str, ...]

    def act(self, task: PrivacyTask) -> Outcome:
        raise NotImplementedError

    def prepare(
        self, tx: Connection, items: Sequence[WorkItem], now: datetime
    ) -> Sequence[PreparedCall | Outcome]:
        """Return the call of each item; each request gets a row with the day when it is due."""
        return [self._prepare_one(tx, item, now) for item in items]

    def _prepare_one(self, tx: Connection, item: WorkItem, now: datetime) -> PreparedCall | Outcome:
        try:
            requested = parse_privacy_request(item)
            check_shop(tx, item, requested)
        except Unreadable as fault:
            return Refused(fault.code or UNREADABLE, str(fault))
        if requested.kind not in self.kinds:
            return Refused(UNREADABLE, f"the topic {item.event_topic} does not request {self.kinds[0]}")
        if requested.customer_id is None and is_done_replay(tx, item):
            return Done("duplicate")
        row = record_request(tx, item, requested, now)
        if row.status == "done":
            return Done("duplicate")
        subject = find_subject(tx, item.shop_id, requested)
        return PreparedCall(item=item, act=partial(self.act, PrivacyTask(item, requested, row, subject)))
