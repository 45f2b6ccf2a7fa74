"""Calls, messages and mails of a shop, the merchants that they are with, and what is on their pages."""

import sqlalchemy as sa
from sqlalchemy import BigInteger, Index, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.core.columns import AT, EMPTY, NO_JSON, columns, identity, keys, optional
from services.core.db import metadata

# One row per object of the provider. ``merchant_id`` is null in a shop without Notion. ``page_state`` is
# ``written`` once everything known of it is on the page ``page_id``.
interactions = Table(
    "interactions",
    metadata,
    *keys("shop_id", Integer),
    *keys("provider_id", Text),
    *columns("kind direction status", Text),
    *columns("participants", JSONB),
    *columns("body", Text),
    *columns("detail", JSONB),
    *columns("occurred_at version_at", AT),
    *optional("event_id merchant_id", BigInteger),
    *columns("page_id page_state", Text, EMPTY),
    Index("ix_interactions_occurred_at", "shop_id", "occurred_at"),
)

# Who a shop has calls, messages and mails with: one row, and one page at Notion, for all phone numbers and
# mail addresses of one contact. ``used_addresses`` had a call, message or mail; the others are
# only in the contact. ``page_values`` is the digest of the properties that the page has.
merchants = Table(
    "merchants",
    metadata,
    identity(),
    *columns("shop_id", Integer),
    *columns("uuid", sa.Uuid, text("gen_random_uuid()")),
    *columns("name contact_id", Text, EMPTY),
    *columns("phones mails used_addresses", ARRAY(Text), NO_JSON),
    *columns("page_id page_values", Text, EMPTY),
    *columns("created_at changed_at", AT),
    # Set before the page is created, until the outcome is known: a search finds new pages after a while.
    *optional("page_attempted_at contact_at redacted_at", AT),
    sa.UniqueConstraint("uuid", name="uq_merchants_uuid"),
    Index("ix_merchants_shop_id", "shop_id", "id"),
    Index("ix_merchants_phones", "phones", postgresql_using="gin"),
    Index("ix_merchants_mails", "mails", postgresql_using="gin"),
    Index(
        "ix_merchants_without_page",
        "shop_id",
        "created_at",
        postgresql_where=text("page_id = '' and redacted_at is null"),
    ),
)

# The page of a phone number or mail address, as Notion answered at ``checked_at``; an empty ``page_id``: it
# has none. After ``expires_at`` Notion is read again.
canvas_cache = Table(
    "canvas_cache",
    metadata,
    *keys("shop_id", Integer),
    *keys("address", Text),
    *columns("merchant_id", BigInteger),
    *columns("page_id", Text, EMPTY),
    *columns("checked_at expires_at", AT),
    Index("ix_canvas_cache_merchant_id", "merchant_id"),
    Index("ix_canvas_cache_expires_at", "shop_id", "expires_at"),
)

# Each entry of the cache that was invalidated.
canvas_invalidations = Table(
    "canvas_invalidations",
    metadata,
    identity(),
    *columns("shop_id", Integer),
    *columns("merchant_id", BigInteger),
    *columns("at", AT),
    *columns("by", Text),
    Index("ix_canvas_invalidations_merchant_id", "merchant_id", "at"),
)

# A part of an interaction: the call itself, its summary, a message. ``wanted`` and ``written`` are digests of
# its blocks, as they should be and as they are on the page. ``attempted_at`` is set before blocks are
# appended and null once the outcome is known: until then the page may have them.
page_parts = Table(
    "page_parts",
    metadata,
    *keys("shop_id", Integer),
    *keys("interaction_id part", Text),
    *columns("merchant_id", BigInteger),
    *columns("wanted", Text),
    *columns("written", Text, EMPTY),
    *columns("block_ids", ARRAY(Text), NO_JSON),
    *columns("changed_at", AT),
    *optional("attempted_at", AT),
    # The parts of a page, and those that it lacks.
    Index("ix_page_parts_merchant_id", "merchant_id"),
    Index("ix_page_parts_pending", "merchant_id", postgresql_where=text("wanted <> written")),
)

# The embedding of an interaction's text, of length 1, by ``model``; ``digest`` is that of the text. An array,
# which needs no extension; the search casts it to pgvector's type where the extension is installed.
interaction_vectors = Table(
    "interaction_vectors",
    metadata,
    *keys("shop_id", Integer),
    *keys("interaction_id", Text),
    *columns("model digest", Text),
    *columns("embedding", ARRAY(sa.REAL)),
    *columns("created_at", AT),
)
