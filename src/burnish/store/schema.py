"""The tables. Every row belongs to a project; personal text lives in ``texts.payload`` and nowhere else.

``records``, ``lineage``, ``votes`` and ``promotions`` are append-only: triggers refuse a change. Rows enter
``votes`` and ``promotions`` through ``chain.append``, which links each to the one before it. A change here
needs a migration.
"""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

# every constraint has a name, so that a later migration can drop it
metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "uq": "%(table_name)s_%(column_0_name)s",
    }
)

records = Table(
    "records",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("stage_version", Integer, nullable=False),
    Column("project", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("name", Text),
    Column("seed", Integer, nullable=False),
    Column("settings", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("libraries", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("seal", Text, nullable=False),
    UniqueConstraint("project", "key", name="records_key"),
    UniqueConstraint("project", "name", name="records_name"),
    Index("records_kind", "project", "kind"),
    sqlite_autoincrement=True,
)

lineage = Table(
    "lineage",
    metadata,
    Column("child", Text, ForeignKey("records.id"), nullable=False),
    Column("parent", Text, ForeignKey("records.id"), nullable=False),
    Column("position", Integer, nullable=False),
    PrimaryKeyConstraint("child", "position"),
    Index("lineage_parent", "parent"),
)

record_blobs = Table(
    "record_blobs",
    metadata,
    Column("record", Text, ForeignKey("records.id"), nullable=False),
    Column("digest", Text, nullable=False),
    PrimaryKeyConstraint("record", "digest"),
)

erased_blobs = Table(
    "erased_blobs",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("erased_at", Text, nullable=False),
)

texts = Table(
    "texts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("subject", Text),
    Column("case", Text),
    Column("salt", Text),
    Column("digest", Text, nullable=False),
    Column("payload", Text),
    Column("created_at", Text, nullable=False),
    Column("erased_at", Text),
    Index("texts_subject", "project", "subject"),
)

dataset_rows = Table(
    "dataset_rows",
    metadata,
    Column("dataset", Text, ForeignKey("records.id"), nullable=False),
    Column("split", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("project", Text, nullable=False),
    Column("text_id", Text, ForeignKey("texts.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", Text, nullable=False),
    PrimaryKeyConstraint("dataset", "split", "position"),
    Index("dataset_rows_text", "text_id"),
)

exchanges = Table(
    "exchanges",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("version", Text, ForeignKey("records.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("text_id", Text, ForeignKey("texts.id"), nullable=False),
    Column("subject", Text),
    Column("case", Text),
    Column("delivery", Text, nullable=False),
    Column("finish_reason", Text, nullable=False),
    Column("settings", Text, nullable=False),
    Column("latency_ms", Float),
    Column("prompt_tokens", Integer, nullable=False),
    Column("answer_tokens", Integer, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Index("exchanges_recent", "project", "created_at"),
    Index("exchanges_text", "text_id"),
)

raters = Table(
    "raters",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    UniqueConstraint("project", "name", name="raters_name"),
    CheckConstraint("source IN ('human', 'simulated', 'judge')", name="raters_source"),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("id", Text, primary_key=True),
    Column("project", Text, nullable=False),
    Column("a", Text, ForeignKey("exchanges.id"), nullable=False),
    Column("b", Text, ForeignKey("exchanges.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("campaign", Text, nullable=False),
    Column("votes_wanted", Integer, nullable=False),
    Column("prompt_key", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    CheckConstraint("a <> b", name="comparisons_two_answers"),
    CheckConstraint("purpose IN ('train', 'judge')", name="comparisons_purpose"),
    Index("comparisons_campaign", "project", "campaign"),
)

leases = Table(
    "leases",
    metadata,
    Column("comparison_id", Text, ForeignKey("comparisons.id"), nullable=False),
    Column("rater_id", Text, ForeignKey("raters.id"), nullable=False),
    Column("project", Text, nullable=False),
    Column("expires_at", Text, nullable=False),
    PrimaryKeyConstraint("comparison_id", "rater_id"),
)

votes = Table(
    "votes",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("comparison_id", Text, ForeignKey("comparisons.id")),
    Column("exchange", Text, ForeignKey("exchanges.id"), nullable=False),
    Column("other", Text, ForeignKey("exchanges.id")),
    Column("version", Text, ForeignKey("records.id"), nullable=False),
    Column("other_version", Text, ForeignKey("records.id")),
    Column("choice", Text),
    Column("left_side", Text),
    Column("criteria", Text),
    Column("value", Float),
    Column("text_id", Text, ForeignKey("texts.id")),
    Column("rater_id", Text, ForeignKey("raters.id"), nullable=False),
    Column("source", Text, nullable=False),
    Column("undo_of", Integer, ForeignKey("votes.sequence")),
    Column("created_at", Text, nullable=False),
    Column("previous", Text),
    Column("digest", Text, nullable=False),
    UniqueConstraint("project", "key", name="votes_key"),
    CheckConstraint("source IN ('human', 'simulated', 'judge')", name="votes_source"),
    Index("votes_comparison", "comparison_id"),
    Index("votes_exchange", "exchange"),
    sqlite_autoincrement=True,
)

promotions = Table(
    "promotions",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("version", Text, ForeignKey("records.id"), nullable=False),
    Column("previous_version", Text, ForeignKey("records.id")),
    Column("verdict", Text, ForeignKey("records.id")),
    Column("by_whom", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("previous", Text),
    Column("digest", Text, nullable=False),
    Index("promotions_project", "project"),
    sqlite_autoincrement=True,
)
