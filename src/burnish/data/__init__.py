"""Files into rows, rows into splits, conversations into ids. Imports neither torch nor transformers."""

from __future__ import annotations

from burnish.data.audit import Audit, RowAudit, audit
from burnish.data.clean import contradictions
from burnish.data.preferences import judged
from burnish.data.read import Dropped, Reading, read_rows, require_good
from burnish.data.reasons import by_reason, numbered
from burnish.data.render import Renderer
from burnish.data.stage import Examples, gather, prepare, read_files, report
from burnish.data.stopping import first_stop

__all__ = [
    "Audit",
    "Dropped",
    "Examples",
    "Reading",
    "Renderer",
    "RowAudit",
    "audit",
    "by_reason",
    "contradictions",
    "first_stop",
    "gather",
    "judged",
    "numbered",
    "prepare",
    "read_files",
    "read_rows",
    "report",
    "require_good",
]
