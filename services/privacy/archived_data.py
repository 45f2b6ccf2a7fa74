"""Personal data in archived events: exported from the archive store; redacted by destroying the keys."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection

from services.core.settings import get_settings
from services.ledger.archive_keys import destroy_keys, list_person_keys
from services.ledger.event_archive import ArchivedEvent, list_archives, open_lines, read_object
from services.ledger.filters import EventFilter
from services.privacy.body_redaction import concerns_subject
from services.privacy.persons import persons_of
from services.privacy.subject import DataSubject, PersonalDataRows, PersonalDataSource
from services.privacy.text_data import describe_event, parse_body
from services.providers.object_store import open_store


def find_archived_rows(tx: Connection, subject: DataSubject) -> PersonalDataRows:
    """Yield the archived events about the subject, with their whole bodies."""
    key_ids = set(list_person_keys(tx, subject.shop_id, persons_of(subject)))
    if not key_ids:
        return
    store = open_store(get_settings().archive_url)
    for archive in list_archives(tx, EventFilter(shop_id=subject.shop_id), key_ids):
        lines = [line for line in read_object(store, archive) if not key_ids.isdisjoint(line["keys"])]
        for event in open_lines(tx, subject.shop_id, lines):
            if isinstance(event, ArchivedEvent) and concerns_subject(
                parse_body(event.body), subject, event.topic
            ):
                yield describe_event(event)


def redact_archived(tx: Connection, subject: DataSubject, now: datetime) -> Mapping[str, int]:
    """Destroy the keys of the subject (for a whole shop, all): their archived events become unreadable.

    The objects stay, and can still be verified.
    """
    persons = None if subject.whole_shop else persons_of(subject)
    count = destroy_keys(tx, subject.shop_id, persons, now)
    return {"archive_keys": count} if count else {}


ARCHIVED_EVENTS = PersonalDataSource(
    name="archived events from Shopify, Stripe and Quo",
    tables=("archive_keys", "event_archives"),
    find=find_archived_rows,
    redact=redact_archived,
    knows_subject=True,
)
