"""How the versions do in service. Imports no torch."""

from __future__ import annotations

from burnish.monitoring.summary import SERVED, events, summary

__all__ = ["SERVED", "events", "summary"]
