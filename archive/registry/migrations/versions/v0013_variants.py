"""Jobs that a request's own parameters made are known as such: they stand beside what the project's made."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("variant", sa.Text(), server_default="", nullable=False))
    where = sa.text("variant <> ''")
    op.create_index("ix_job_variant", "job", ["key"], sqlite_where=where, postgresql_where=where)


def downgrade() -> None:
    op.drop_index("ix_job_variant", "job")
    op.drop_column("job", "variant")
