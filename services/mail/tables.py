"""The outbox: every mail with its result. The dedupe key never expires."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from services.core.columns import AT, EMPTY, FALSE, NO_JSON, ZERO, columns, identity, keys, optional, unique
from services.core.db import metadata

STATUSES = ("queued", "sending", "sent", "unknown", "refused")
"""``unknown``: sent without an answer; a person decides with ``fleet mail resend`` or ``mark-sent``."""

mail_outbox = Table(
    "mail_outbox",
    metadata,
    identity(),
    *optional("shop_id", Integer),
    *columns("dedupe_key kind period recipient subject text html", Text),
    *columns("headers", JSONB, NO_JSON),
    *columns("has_parts", Boolean, FALSE),
    # Needs consent and can be unsubscribed; any other mail is part of the service.
    *columns("is_commercial", Boolean, FALSE),
    *columns("status", Text, text("'queued'")),
    # How often it was sent; the fence between two workers with the same row.
    *columns("attempt", Integer, ZERO),
    # Identifies the mail at every transport: part of its Message-ID and its idempotency key.
    *columns("token", Text, text("gen_random_uuid()::text")),
    # ``account`` of a transport that recognizes repeats: another account does not recognize this mail.
    *columns("transport account message_id provider_id", Text, EMPTY),
    *optional("error_code last_error", Text),
    *optional("work_id", BigInteger),
    *columns("request_id", Text, EMPTY),
    *columns("created_at", AT, sa.func.now()),
    # ``handed_over_at``: the first attempt without a known result. ``emptied_at``: when its text and parts
    # were deleted by age; the row stays, because its key never expires.
    *optional("handed_over_at sent_at emptied_at", AT),
    # The first event of its kind from the mail service, or a delivery report.
    *optional("delivered_at bounced_at complained_at", AT),
    sa.CheckConstraint("status in ('queued','sending','sent','unknown','refused')", name="status"),
    unique("uq_mail_outbox_key", "shop_id", "dedupe_key"),
    Index("ix_mail_outbox_created_at", "created_at", postgresql_where=text("emptied_at is null")),
    Index("ix_mail_outbox_shop_id", "shop_id", "id"),
    Index("ix_mail_outbox_provider_id", "provider_id", postgresql_where=text("provider_id <> ''")),
    Index("ix_mail_outbox_bounced_at", "bounced_at", postgresql_where=text("bounced_at is not null")),
    Index("ix_mail_outbox_open", "status", "id", postgresql_where=text("status <> 'sent'")),
)

# Addresses to which a shop (null: the fleet) sends no mail, or no commercial one. After a redaction
# ``address`` is a hash.
mail_suppressions = Table(
    "mail_suppressions",
    metadata,
    identity(),
    *optional("shop_id", Integer),
    *columns("address reason source", Text),
    *optional("mail_id", BigInteger),
    *columns("created_at", AT, sa.func.now()),
    sa.CheckConstraint(
        "reason in ('bounced','complained','unsubscribed','blocked_by_person')", name="reason"
    ),
    unique("uq_mail_suppressions_address", "address", "shop_id", "reason"),
)

# What mail services reported, one row for each event for ever: an event that arrives again is recognized.
# ``shop_id``: the account (null: the fleet's). ``address_hash``: of a soft bounce's recipient.
mail_events = Table(
    "mail_events",
    metadata,
    identity(),
    *optional("shop_id", Integer),
    *columns("provider event_id kind", Text),
    *columns("at", AT),
    *optional("mail_id", BigInteger),
    *columns("address_hash detail", Text, EMPTY),
    unique("uq_mail_events_event", "provider", "event_id", "shop_id"),
    Index("ix_mail_events_mail_id", "mail_id", postgresql_where=text("mail_id is not null")),
    Index("ix_mail_events_soft", "address_hash", postgresql_where=text("address_hash <> ''")),
)

mail_parts = Table(
    "mail_parts",
    metadata,
    Column("mail_id", BigInteger, sa.ForeignKey("mail_outbox.id", ondelete="CASCADE"), primary_key=True),
    *keys("place", Integer),
    *columns("name content_type", Text),
    *columns("content_id", Text, EMPTY),
    *columns("is_inline", Boolean),
    *columns("content", LargeBinary),
)
