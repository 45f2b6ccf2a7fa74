"""Initial schema: all tables and the audit chain"""

revision = "s0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Do nothing: ``services.schema.migrate`` creates a new database and stamps it."""


def downgrade() -> None:
    raise NotImplementedError("there is no older schema: drop the database instead")
