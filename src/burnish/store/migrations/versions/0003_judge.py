"""Votes and raters of a third source: a judge behind an endpoint."""

from __future__ import annotations

from alembic import op

revision, down_revision = "0003", "0002"

TABLES = ("raters", "votes")
BEFORE, AFTER = "source IN ('human', 'simulated')", "source IN ('human', 'simulated', 'judge')"


def upgrade() -> None:
    """Widen the checks in the tables' definitions.

    The tables cannot be copied: others refer to their rows, and foreign keys stay on in a transaction. No row changes,
    which is when SQLite lets a definition be edited (sqlite.org/lang_altertable.html, 7).
    """
    conn = op.get_bind()
    number = int(conn.exec_driver_sql("PRAGMA schema_version").scalar_one())
    conn.exec_driver_sql("PRAGMA writable_schema = ON")
    for table in TABLES:
        conn.exec_driver_sql(
            "UPDATE sqlite_master SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = ?",
            (BEFORE, AFTER, table),
        )
    conn.exec_driver_sql(f"PRAGMA schema_version = {number + 1}")  # every connection reads again
    conn.exec_driver_sql("PRAGMA writable_schema = OFF")
