"""The outbox: every mail with its result. The dedupe key never expires."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from services.core.db import metadata

STATUSES = ("queued", "sending", "sent", "unknown", "refused")
"""``unknown``: sent without an answer; a person decides with ``fleet mail resend`` or ``mark-sent``."""

_at = DateTime(timezone=True)

mail_outbox = Table(
    "mail_outbox",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("shop_id", Integer),
    Column("dedupe_key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("period", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("html", Text, nullable=False),
    Column("headers", JSONB, nullable=False, server_default=text("'{}'")),
    Column("has_parts", Boolean, nullable=False, server_default=text("false")),
    Column("status", Text, nullable=False, server_default=text("'queued'")),
    # How often it was sent; the fence between two workers with the same row.
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    # Identifies the mail at every transport: part of its Message-ID and its idempotency key.
    Column("token", Text, nullable=False, server_default=text("gen_random_uuid()::text")),
    Column("transport", Text, nullable=False, server_default=text("''")),
    # The account of a transport that recognizes repeats: another account does not recognize this mail.
    Column("account", Text, nullable=False, server_default=text("''")),
    Column("message_id", Text, nullable=False, server_default=text("''")),
    Column("provider_id", Text, nullable=False, server_default=text("''")),
    Column("error_code", Text),
    Column("last_error", Text),
    Column("work_id", BigInteger),
    Column("request_id", Text, nullable=False, server_default=text("''")),
    Column("created_at", _at, nullable=False, server_default=func.now()),
    # The first attempt without a known result.
    Column("handed_over_at", _at),
    Column("sent_at", _at),
    # When its text and parts were deleted by age; the row stays, because its key never expires.
    Column("emptied_at", _at),
    CheckConstraint("status in ('queued','sending','sent','unknown','refused')", name="status"),
    UniqueConstraint("shop_id", "dedupe_key", name="uq_mail_outbox_key", postgresql_nulls_not_distinct=True),
    Index("ix_mail_outbox_created_at", "created_at", postgresql_where=text("emptied_at is null")),
    Index("ix_mail_outbox_open", "status", "id", postgresql_where=text("status <> 'sent'")),
)

mail_parts = Table(
    "mail_parts",
    metadata,
    Column("mail_id", BigInteger, ForeignKey("mail_outbox.id", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("content_type", Text, nullable=False),
    Column("content_id", Text, nullable=False, server_default=text("''")),
    Column("is_inline", Boolean, nullable=False, server_default=text("false")),
    Column("content", LargeBinary, nullable=False),
)
