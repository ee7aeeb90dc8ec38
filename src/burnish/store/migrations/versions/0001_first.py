"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

APPEND_ONLY = ("records", "lineage", "votes", "promotions")


def upgrade() -> None:
    op.create_table(
        "erased_blobs",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("erased_at", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("erased_blobs_pk")),
    )
    op.create_table(
        "raters",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint("source IN ('human', 'simulated')", name="raters_source"),
        sa.PrimaryKeyConstraint("id", name=op.f("raters_pk")),
        sa.UniqueConstraint("project", "name", name="raters_name"),
    )
    op.create_table(
        "records",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("stage_version", sa.Integer(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("libraries", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("seal", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("records_pk")),
        sa.UniqueConstraint("id", name=op.f("records_id")),
        sa.UniqueConstraint("project", "key", name="records_key"),
        sa.UniqueConstraint("project", "name", name="records_name"),
        sqlite_autoincrement=True,
    )
    op.create_index("records_kind", "records", ["project", "kind"], unique=False)
    op.create_table(
        "texts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("case", sa.Text(), nullable=True),
        sa.Column("salt", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("erased_at", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("texts_pk")),
    )
    op.create_index("texts_subject", "texts", ["project", "subject"], unique=False)
    op.create_table(
        "dataset_rows",
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("text_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["dataset"], ["records.id"], name=op.f("dataset_rows_dataset_fk")),
        sa.ForeignKeyConstraint(["text_id"], ["texts.id"], name=op.f("dataset_rows_text_id_fk")),
        sa.PrimaryKeyConstraint("dataset", "split", "position", name=op.f("dataset_rows_pk")),
    )
    op.create_index("dataset_rows_text", "dataset_rows", ["text_id"], unique=False)
    op.create_table(
        "exchanges",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("text_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("case", sa.Text(), nullable=True),
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("latency_ms", sa.Float(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("answer_tokens", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["text_id"], ["texts.id"], name=op.f("exchanges_text_id_fk")),
        sa.ForeignKeyConstraint(["version"], ["records.id"], name=op.f("exchanges_version_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("exchanges_pk")),
    )
    op.create_index("exchanges_recent", "exchanges", ["project", "created_at"], unique=False)
    op.create_index("exchanges_text", "exchanges", ["text_id"], unique=False)
    op.create_table(
        "lineage",
        sa.Column("child", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["child"], ["records.id"], name=op.f("lineage_child_fk")),
        sa.ForeignKeyConstraint(["parent"], ["records.id"], name=op.f("lineage_parent_fk")),
        sa.PrimaryKeyConstraint("child", "position", name=op.f("lineage_pk")),
    )
    op.create_index("lineage_parent", "lineage", ["parent"], unique=False)
    op.create_table(
        "promotions",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("previous_version", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("by_whom", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["previous_version"], ["records.id"], name=op.f("promotions_previous_version_fk")),
        sa.ForeignKeyConstraint(["verdict"], ["records.id"], name=op.f("promotions_verdict_fk")),
        sa.ForeignKeyConstraint(["version"], ["records.id"], name=op.f("promotions_version_fk")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("promotions_pk")),
        sqlite_autoincrement=True,
    )
    op.create_index("promotions_project", "promotions", ["project"], unique=False)
    op.create_table(
        "record_blobs",
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["record"], ["records.id"], name=op.f("record_blobs_record_fk")),
        sa.PrimaryKeyConstraint("record", "digest", name=op.f("record_blobs_pk")),
    )
    op.create_table(
        "comparisons",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("a", sa.Text(), nullable=False),
        sa.Column("b", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.Column("votes_wanted", sa.Integer(), nullable=False),
        sa.Column("prompt_key", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.CheckConstraint("purpose IN ('train', 'judge')", name="comparisons_purpose"),
        sa.CheckConstraint("a <> b", name="comparisons_two_answers"),
        sa.ForeignKeyConstraint(["a"], ["exchanges.id"], name=op.f("comparisons_a_fk")),
        sa.ForeignKeyConstraint(["b"], ["exchanges.id"], name=op.f("comparisons_b_fk")),
        sa.PrimaryKeyConstraint("id", name=op.f("comparisons_pk")),
    )
    op.create_index("comparisons_campaign", "comparisons", ["project", "campaign"], unique=False)
    op.create_table(
        "leases",
        sa.Column("comparison_id", sa.Text(), nullable=False),
        sa.Column("rater_id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("leases_comparison_id_fk")),
        sa.ForeignKeyConstraint(["rater_id"], ["raters.id"], name=op.f("leases_rater_id_fk")),
        sa.PrimaryKeyConstraint("comparison_id", "rater_id", name=op.f("leases_pk")),
    )
    op.create_table(
        "votes",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("comparison_id", sa.Text(), nullable=True),
        sa.Column("exchange", sa.Text(), nullable=False),
        sa.Column("other", sa.Text(), nullable=True),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("other_version", sa.Text(), nullable=True),
        sa.Column("choice", sa.Text(), nullable=True),
        sa.Column("left_side", sa.Text(), nullable=True),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("text_id", sa.Text(), nullable=True),
        sa.Column("rater_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("undo_of", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.CheckConstraint("source IN ('human', 'simulated')", name="votes_source"),
        sa.ForeignKeyConstraint(["comparison_id"], ["comparisons.id"], name=op.f("votes_comparison_id_fk")),
        sa.ForeignKeyConstraint(["exchange"], ["exchanges.id"], name=op.f("votes_exchange_fk")),
        sa.ForeignKeyConstraint(["other"], ["exchanges.id"], name=op.f("votes_other_fk")),
        sa.ForeignKeyConstraint(["other_version"], ["records.id"], name=op.f("votes_other_version_fk")),
        sa.ForeignKeyConstraint(["rater_id"], ["raters.id"], name=op.f("votes_rater_id_fk")),
        sa.ForeignKeyConstraint(["text_id"], ["texts.id"], name=op.f("votes_text_id_fk")),
        sa.ForeignKeyConstraint(["undo_of"], ["votes.sequence"], name=op.f("votes_undo_of_fk")),
        sa.ForeignKeyConstraint(["version"], ["records.id"], name=op.f("votes_version_fk")),
        sa.PrimaryKeyConstraint("sequence", name=op.f("votes_pk")),
        sa.UniqueConstraint("project", "key", name="votes_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("votes_comparison", "votes", ["comparison_id"], unique=False)
    op.create_index("votes_exchange", "votes", ["exchange"], unique=False)
    if op.get_bind().dialect.name == "sqlite":
        for table in APPEND_ONLY:
            for change in ("UPDATE", "DELETE"):
                op.execute(
                    f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
                )
