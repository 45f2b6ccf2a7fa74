"""People who sign in to the console: roles, sessions, passkeys, locks and API tokens"""

from alembic import op

revision = "s0005"
down_revision = "s0004"
branch_labels = None
depends_on = None

_STATEMENTS = """
create table sign_in_locks (
  kind text not null, subject bytea not null, failures integer not null, first_at timestamptz not null,
  last_at timestamptz not null, locked_until timestamptz, constraint pk_sign_in_locks primary key (kind,
  subject)
);
create index ix_sign_in_locks_last_at on sign_in_locks (last_at);
create table users (
  id integer generated always as identity, email text not null, name text not null, password text, active
  boolean default true not null, fs_uniquifier text not null, fs_webauthn_user_handle text,
  tf_primary_method text, tf_totp_secret text, mf_recovery_codes text[], created_at timestamptz default
  now() not null, signed_in_at timestamptz, constraint pk_users primary key (id), constraint
  uq_users_fs_uniquifier unique (fs_uniquifier)
);
create unique index uq_users_email on users (lower(email));
create table api_tokens (
  id integer generated always as identity, user_id integer not null, name text not null, token_hash bytea
  not null, role text not null, created_at timestamptz not null, ends_at timestamptz not null, used_at
  timestamptz, used_from text default '' not null, constraint pk_api_tokens primary key (id), constraint
  ck_api_tokens_role check (role in ('viewer', 'operator', 'admin', 'owner')), constraint
  uq_api_tokens_token_hash unique (token_hash), constraint fk_api_tokens_user_id_users foreign
  key(user_id) references users (id) on delete cascade
);
create index ix_api_tokens_user_id on api_tokens (user_id);
create table user_passkeys (
  id integer generated always as identity, user_id integer not null, name text not null, credential_id
  bytea not null, public_key bytea not null, sign_count integer default 0 not null, transports text[],
  backup_state boolean default false not null, device_type text not null, usage text not null, extensions
  text, created_at timestamptz default now() not null, lastuse_datetime timestamptz not null, constraint
  pk_user_passkeys primary key (id), constraint uq_user_passkeys_credential_id unique (credential_id),
  constraint fk_user_passkeys_user_id_users foreign key(user_id) references users (id) on delete cascade
);
create index ix_user_passkeys_user_id on user_passkeys (user_id);
create table user_roles (
  id integer generated always as identity, user_id integer not null, shop_id integer, role text not null,
  constraint pk_user_roles primary key (id), constraint ck_user_roles_role check (role in ('viewer',
  'operator', 'admin', 'owner')), constraint uq_user_roles_scope unique nullS not distinct (user_id,
  shop_id), constraint fk_user_roles_user_id_users foreign key(user_id) references users (id) on delete
  cascade
);
create table user_sessions (
  token_hash bytea not null, user_id integer not null, created_at timestamptz not null, seen_at
  timestamptz not null, ends_at timestamptz not null, has_second_factor boolean default false not null,
  address text not null, user_agent text not null, constraint pk_user_sessions primary key (token_hash),
  constraint fk_user_sessions_user_id_users foreign key(user_id) references users (id) on delete cascade
);
create index ix_user_sessions_seen_at on user_sessions (seen_at);
create index ix_user_sessions_user_id on user_sessions (user_id);
"""


def upgrade() -> None:
    op.get_bind().exec_driver_sql(_STATEMENTS, execution_options={"no_parameters": True})


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
