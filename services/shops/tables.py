"""Shops, their settings, connections and sealed secrets (at most two valid versions each)."""

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Identity, Integer, Table, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from services.core.columns import EMPTY, columns
from services.core.db import metadata

_at = sa.DateTime(timezone=True)

shops = Table(
    "shops",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("slug", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("created_at", _at, nullable=False, server_default=func.now()),
)

shop_config = Table(
    "shop_config",
    metadata,
    Column("shop_id", Integer, ForeignKey("shops.id"), primary_key=True),
    Column("owner_email", Text, nullable=False, server_default=text("''")),
    Column("accountant_email", Text, nullable=False, server_default=text("''")),
    Column("shopify_domain", Text, nullable=False, server_default=text("''")),
    Column("stock_location_id", Text, nullable=False, server_default=text("''")),
    Column("stock_owner", Text, nullable=False, server_default=text("'shopify'")),
    Column("ai_cap", Text, nullable=False, server_default=text("''")),
    Column("sms_budget", Text, nullable=False, server_default=text("''")),
    Column("exchange_rates", Text, nullable=False, server_default=text("''")),
    *columns("postal_address mail_contact", Text, EMPTY),
    *columns("mails_per_day", Text, text("'1'")),
    *columns("notion_data_source ai_uses", Text, EMPTY),
    *columns("shop_floor", Text, text("'off'")),
    Column("last_daily_run", JSONB),
    Column("settings", JSONB, nullable=False, server_default=text("'{}'")),
    Column("former_shopify_domains", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # A store belongs to one shop, removed ones aside.
    sa.Index(
        "uq_shop_config_shopify_domain",
        "shopify_domain",
        unique=True,
        postgresql_where=text("shopify_domain <> '' and (settings -> 'removed_at') is null"),
    ),
)

# Whether a provider accepts the credentials of a shop, or of the fleet (``shop_id`` null).
connections = Table(
    "connections",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("shop_id", Integer, ForeignKey("shops.id")),
    Column("provider", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("code", Text, nullable=False, server_default=text("''")),
    Column("detail", Text, nullable=False, server_default=text("''")),
    # The only part that is refused with a valid credential; empty: everything.
    Column("resource", Text, nullable=False, server_default=text("''")),
    Column("since", _at, nullable=False),
    Column("updated_at", _at, nullable=False),
    Column("token_expires_at", _at),
    Column("refresh_expires_at", _at),
    sa.CheckConstraint("status in ('ok','broken')", name="status"),
    sa.UniqueConstraint(
        "shop_id", "provider", name="uq_connections_scope", postgresql_nulls_not_distinct=True
    ),
)

shop_secrets = Table(
    "shop_secrets",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("shop_id", Integer, ForeignKey("shops.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("sealed", sa.LargeBinary, nullable=False),
    Column("created_at", _at, nullable=False, server_default=func.now()),
    Column("expires_at", _at),
    # At most an hour late.
    Column("last_used_at", _at),
    sa.Index("ix_shop_secrets_shop_id_name", "shop_id", "name"),
)
