"""The store: records and their lineage, personal text kept apart, blobs, and the run lock, in one folder."""

from __future__ import annotations

from burnish.store.chain import append
from burnish.store.erasure import Forgotten
from burnish.store.hashing import canonical, derive_seed, digest_of, now
from burnish.store.ledger import Lineage, Work
from burnish.store.runs import RunLog
from burnish.store.store import Store, open_store
from burnish.store.texts import TextRef
from burnish.store.verify import Verified

__all__ = [
    "Forgotten",
    "Lineage",
    "RunLog",
    "Store",
    "TextRef",
    "Verified",
    "Work",
    "append",
    "canonical",
    "derive_seed",
    "digest_of",
    "now",
    "open_store",
]
