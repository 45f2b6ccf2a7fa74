"""Topic ``privacy_redact``: remove a customer from all tables. Orders and payments stay, without the person.

The audit has only the customer's number, so it is redacted by reference.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial

from sqlalchemy import Connection

from services.alerts.incidents import resolve_incident
from services.audit.chain import Mutation
from services.core.clock import utc_now
from services.core.counts import format_count
from services.core.db import transaction
from services.core.errors import Misconfigured, Refused
from services.core.locks import lock_bodies
from services.core.settings import get_settings
from services.ledger.work import Done, FollowUp, Outcome
from services.privacy.data_sources import list_data_sources
from services.privacy.handler import PrivacyHandler, PrivacyTask
from services.privacy.store import UNCONFIRMED_ERASURE_RULE, is_confirmed, list_exports, record_request_done
from services.privacy.subject import DataSubject, PersonalDataSource
from services.privacy.text_data import EVENTS
from services.providers.object_store import open_store
from services.shopify.shop_profile import UNCONFIRMED
from services.shopify.uninstall import check_uninstalled


class PrivacyRedactHandler(PrivacyHandler):
    """Redacts customers and whole shops. ``check`` returns whether Shopify confirms an uninstall."""

    kinds = ("redact", "shop_redact")

    def __init__(self, check: Callable[[int], bool] = check_uninstalled) -> None:
        self._check = check

    def act(self, task: PrivacyTask) -> Outcome:
        """Remove the person from the archive store and from every source; a retry after a crash continues.

        Rows that identify the person are redacted last, in one transaction, so that a retry can still find
        the person. A whole shop is erased only after a confirmation: by a person, or by Shopify, which
        confirms that our app is uninstalled.
        """
        shop_id, subject = task.item.shop_id, task.subject
        with transaction() as tx:
            exports = list_exports(tx, subject)
            may_erase = not subject.whole_shop or is_confirmed(tx, shop_id, task.row.id)
        if not may_erase and not self._is_uninstalled(shop_id):
            return Refused(
                UNCONFIRMED,
                "Shopify does not confirm that our app is uninstalled, so nothing was erased: if the shop "
                f"left, `fleet privacy confirm {task.row.id} --reason TEXT` by {task.row.due_at:%Y-%m-%d}",
            )
        if exports:
            store = open_store(get_settings().archive_url)
            for key in exports:
                store.delete(key)
        counts = _redact_shop(subject) if subject.whole_shop else _redact_customer(subject)
        return Done("redacted", partial(_record, task, counts, len(exports)))

    def _is_uninstalled(self, shop_id: int) -> bool:
        try:
            return self._check(shop_id)
        except Misconfigured:
            return False


def _redact_customer(subject: DataSubject) -> Counter[str]:
    sources = list_data_sources()
    counts: Counter[str] = Counter()
    for source in sources:
        if not source.knows_subject:
            counts.update(_redact([source], subject))
    counts.update(_redact([source for source in sources if source.knows_subject], subject))
    return counts


def _redact_shop(subject: DataSubject) -> Counter[str]:
    counts: Counter[str] = Counter()
    # Events once more: until its key was destroyed, an archived event could be replayed.
    for source in (*list_data_sources(), EVENTS):
        while any((piece := _redact([source], subject)).values()):
            counts.update(piece)
        counts.update(piece)
    return counts


def _redact(sources: Iterable[PersonalDataSource], subject: DataSubject) -> Counter[str]:
    """Redact ``sources`` in one transaction, while no event is replayed; return the changed rows by table."""
    counts: Counter[str] = Counter()
    with transaction() as tx:
        lock_bodies(tx, [subject.shop_id], is_shared=False)
        for source in sources:
            counts.update(source.redact(tx, subject, utc_now()))
    return counts


def _record(task: PrivacyTask, counts: Counter[str], exports: int, tx: Connection) -> FollowUp:
    now = utc_now()
    record_request_done(tx, task.row.id, {"rows": dict(counts), "exports": exports}, now)
    if task.subject.whole_shop:
        resolve_incident(
            tx, task.item.shop_id, UNCONFIRMED_ERASURE_RULE, str(task.row.id), now, "The shop is erased."
        )
    who = f"customer {task.subject.customer_id}" if task.subject.customer_id else "the whole shop"
    mutations = [
        Mutation(table, who, f"{who} redacted: {format_count(count, 'row')}", None, {"rows": count})
        for table, count in sorted(counts.items())
        if count
    ]
    total = counts.total()
    deleted = f"{format_count(exports, 'export')} deleted"
    summary = f"{who} redacted: {format_count(total, 'row')}, {deleted}"
    after = {"status": "done", "rows": total, "exports": exports}
    mutations.append(Mutation("privacy_requests", str(task.row.id), summary, {"status": "open"}, after))
    return FollowUp(audit=[task.make_entry("privacy.redact", mutations)])
