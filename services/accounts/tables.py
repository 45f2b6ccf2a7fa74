"""People who sign in to the console, and what lets them in or keeps them out."""

import sqlalchemy as sa
from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.mutable import MutableList

from services.accounts.roles import ROLE_NAMES
from services.core.columns import AT, EMPTY, FALSE, ZERO, columns, identity, keys, optional, unique
from services.core.db import metadata

# Flask-Security changes these lists in place.
_TEXTS = MutableList.as_mutable(ARRAY(Text))


def _of_user() -> Column[int]:
    return Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE"), nullable=False)


def _check_role() -> sa.CheckConstraint:
    return sa.CheckConstraint(f"role in ({', '.join(map(repr, ROLE_NAMES))})", name="role")


# ``fs_``, ``tf_`` and ``mf_`` are names of Flask-Security. Passwords are hashed with argon2; the secret of
# the one-time codes and the recovery codes are encrypted. ``last_code_step`` is the half minute, counted from
# 1970, of the one-time code used last.
users = Table(
    "users",
    metadata,
    identity(Integer),
    *columns("email name", Text),
    *optional("password", Text),
    *columns("active", Boolean, text("true")),
    *columns("fs_uniquifier", Text),
    *optional("fs_webauthn_user_handle tf_primary_method tf_totp_secret", Text),
    *optional("mf_recovery_codes", _TEXTS),
    *optional("last_code_step", sa.BigInteger),
    *optional("oidc_issuer oidc_subject", Text),
    *columns("created_at", AT, func.now()),
    *optional("signed_in_at", AT),
    sa.UniqueConstraint("fs_uniquifier", name="uq_users_fs_uniquifier"),
    sa.UniqueConstraint("oidc_issuer", "oidc_subject", name="uq_users_oidc_subject"),
    Index("uq_users_email", text("lower(email)"), unique=True),
)

# The role of a person at one shop, or (``shop_id`` null) in the whole fleet.
user_roles = Table(
    "user_roles",
    metadata,
    identity(Integer),
    _of_user(),
    *optional("shop_id", Integer),
    *columns("role", Text),
    _check_role(),
    unique("uq_user_roles_scope", "user_id", "shop_id"),
)

user_passkeys = Table(
    "user_passkeys",
    metadata,
    identity(Integer),
    _of_user(),
    *columns("name", Text),
    *columns("credential_id public_key", LargeBinary),
    *columns("sign_count", Integer, ZERO),
    *optional("transports", _TEXTS),
    *columns("backup_state", Boolean, FALSE),
    *columns("device_type usage", Text),
    *optional("extensions", Text),
    *columns("created_at", AT, func.now()),
    *columns("lastuse_datetime", AT),
    sa.UniqueConstraint("credential_id", name="uq_user_passkeys_credential_id"),
    Index("ix_user_passkeys_user_id", "user_id"),
)

# A row for each browser that is signed in. The key is the hash of a random value in the cookie.
user_sessions = Table(
    "user_sessions",
    metadata,
    *keys("token_hash", LargeBinary),
    _of_user(),
    *columns("created_at seen_at ends_at", AT),
    *columns("has_second_factor", Boolean, FALSE),
    *columns("address user_agent", Text),
    Index("ix_user_sessions_user_id", "user_id"),
    Index("ix_user_sessions_seen_at", "seen_at"),
)

# Failed sign-ins of an account or an address; ``subject`` is a keyed hash: anybody can type any name.
sign_in_locks = Table(
    "sign_in_locks",
    metadata,
    *keys("kind", Text),
    *keys("subject", LargeBinary),
    *columns("failures", Integer),
    *columns("first_at last_at", AT),
    *optional("locked_until", AT),
    Index("ix_sign_in_locks_last_at", "last_at"),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    identity(Integer),
    _of_user(),
    *columns("name", Text),
    *columns("token_hash", LargeBinary),
    *columns("role", Text),
    *columns("created_at ends_at", AT),
    *optional("used_at", AT),
    *columns("used_from", Text, EMPTY),
    _check_role(),
    sa.UniqueConstraint("token_hash", name="uq_api_tokens_token_hash"),
    Index("ix_api_tokens_user_id", "user_id"),
)

# A filter of a list of the console, of one person, whose removal deletes it, or (``user_id`` null) shared.
saved_filters = Table(
    "saved_filters",
    metadata,
    identity(Integer),
    Column("user_id", Integer, ForeignKey("users.id", ondelete="CASCADE")),
    *columns("list name query created_by", Text),
    *columns("created_at", AT),
    unique("uq_saved_filters_name", "user_id", "list", "name"),
)

# What a shop's admins were mailed about, once for each cause.
notifications = Table(
    "notifications",
    metadata,
    identity(),
    Column("shop_id", Integer, ForeignKey("shops.id"), nullable=False),
    *columns("kind cause text", Text),
    *columns("at", AT),
    sa.UniqueConstraint("shop_id", "kind", "cause", name="uq_notifications_cause"),
    Index("ix_notifications_shop_id", "shop_id", "at"),
    Index("ix_notifications_at", "at"),
)
