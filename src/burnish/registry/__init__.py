"""The registry: which version serves, since when, and why."""

from burnish.registry.card import card, stage_figures
from burnish.registry.promotions import Listed, history, production, promote, rollback, versions

__all__ = ["Listed", "card", "history", "production", "promote", "rollback", "stage_figures", "versions"]
