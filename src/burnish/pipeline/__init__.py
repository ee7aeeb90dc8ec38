"""The circle: a project, its turns, and what they came to."""

from __future__ import annotations

from burnish.pipeline.project import Project

__all__ = ["Project"]
