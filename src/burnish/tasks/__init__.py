"""Tasks: one file per kind; the same task reads rows, prompts and keeps answers for every stage."""

from __future__ import annotations

from burnish.config import Recipe
from burnish.data.render import Renderer
from burnish.tasks.chat import ChatTask

TASKS = {"chat": ChatTask}


def task_for(recipe: Recipe, renderer: Renderer) -> ChatTask:
    """The recipe's task, on a version's renderer."""
    return TASKS[recipe.task](renderer, recipe.evaluate.max_new_tokens, recipe.sft.train_on, recipe.sft.span_weights)


__all__ = ["TASKS", "ChatTask", "task_for"]
