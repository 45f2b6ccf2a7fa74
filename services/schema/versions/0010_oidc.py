"""Whom the OpenID Connect provider means: issuer and subject of each person"""

from alembic import op

revision = "s0010"
down_revision = "s0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "alter table users add column oidc_issuer text, add column oidc_subject text,"
        " add constraint uq_users_oidc_subject unique (oidc_issuer, oidc_subject)"
    )


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before this migration")
