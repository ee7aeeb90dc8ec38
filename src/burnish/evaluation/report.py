"""What an evaluation, a judgement and a verdict say, for people: lines of text, Markdown, and a dict for the pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from burnish.errors import EvaluationError
from burnish.evaluation.gates import ALPHA
from burnish.evaluation.metrics import SCORE, UTILITY, number, shown
from burnish.records import Figure, Json, Record

ORDER = ("base", "prompt_only", "production", "start", "sft", "preference", "rl")
SIMULATED = "Simulated raters: this shows that the machinery follows stated preferences, not that people will like it."
FIRST = (UTILITY, "win_rate", "loss", "kl", "length", "cut", "distinct_2", "repeats", "changed")


def table(evaluation: Record, judgement: Record | None = None) -> dict[str, Json]:
    """The final table.

    Returns:
        ``columns``: the metrics, the most telling first; ``rows``: one per contender with ``name``, ``version`` and
        ``cells`` (a Figure's fields, or None where it was not measured), names of one version side by side in one row;
        ``differences``: the candidate minus each other, by metric.
    """
    body = evaluation.body
    figures: dict[str, dict[str, Json]] = {name: dict(row) for name, row in body["figures"].items()}
    if judgement is not None:
        figures[judgement.body["candidate"]]["win_rate"] = judgement.body["win_rate"]
    measured = {metric for row in figures.values() for metric in row}
    rest = sorted(measured - set(FIRST))
    columns = [metric for metric in FIRST if metric in measured]
    columns[1:1] = rest if columns[:1] == [UTILITY] else []
    columns += [] if columns[:1] == [UTILITY] else rest
    rows = [
        {
            "name": " = ".join(names),
            "version": body["names"][names[0]],
            "cells": {metric: _first(figures, names, metric) for metric in columns},
        }
        for names in _sides(body)
    ]
    return {
        "split": body["split"],
        "items": len(body["rows"]),
        "candidate": body["candidate"],
        "columns": columns,
        "rows": rows,
        "differences": body["differences"],
        "changed": body["changed"],
    }


def lines(evaluation: Record, verdict: Record | None = None, judgement: Record | None = None) -> list[str]:
    """The table as Markdown, what raters said, and the verdict line by line."""
    found = table(evaluation, judgement)
    shown_columns = [metric for metric in found["columns"] if metric == UTILITY or not metric.startswith(SCORE)]
    said = [
        f"{found['items']} {found['split']} prompts, one answer each; 95 % intervals over prompts",
        "",
        f"| contender | {' | '.join(_title(metric) for metric in shown_columns)} |",
        f"|---|{'---|' * len(shown_columns)}",
    ]
    for row in found["rows"]:
        cells = [_cell(row["cells"][metric]) for metric in shown_columns]
        said.append(f"| {row['name']} ({row['version']}) | {' | '.join(cells)} |")
    said += ["", *_differences(evaluation), *_judges(judgement), *verdict_lines(verdict)]
    return said


def verdict_lines(verdict: Record | None) -> list[str]:
    """Each rule in plain words, the answer, and how often this held-out set has been asked."""
    if verdict is None:
        return []
    body = verdict.body
    said = [f"gate: {'passed' if body['passed'] else 'no'}"]
    said += [f"  {rule['why']}" for rule in body["rules"]]
    asked = len(body["decided_before"]) + 1
    said.append(
        f"  decision {asked} on these {body['held_out']['split']} prompts: one-sided at {1 - body['alpha']:.1%}, "
        f"{body['alpha_spent']:.3f} of alpha {ALPHA} spent"
    )
    return said


def dominant_part(evaluation: Record, against: str | None = None) -> str | None:
    """A sentence where one part of the score makes more than half of the gain in utility; None where none does.

    Raises:
        EvaluationError: ``against`` (default: the start) is no other contender.
    """
    name = against or evaluation.body["start"]
    if name not in evaluation.body["differences"]:
        raise EvaluationError(f'"{name}" is not compared with the candidate in {evaluation.id}')
    gains = {m: d["value"] for m, d in evaluation.body["differences"][name].items() if m.startswith(SCORE)}
    gain = gains.pop(UTILITY, 0.0)
    if gain <= 0 or not gains:
        return None
    part, value = max(gains.items(), key=lambda item: item[1])
    if not value > 0.5 * gain:
        return None
    return (
        f'one part explains most of the gain: "{part.removeprefix(SCORE)}" gave {number(value)} '
        f"of {number(gain)} in utility"
    )


def _sides(body: Mapping[str, Any]) -> list[list[str]]:
    """Names by what stands behind them, in the order of the circle."""
    grouped: dict[tuple[str, bool], list[str]] = {}
    for name in sorted(body["contenders"], key=lambda n: (ORDER.index(n) if n in ORDER else len(ORDER), n)):
        grouped.setdefault((body["contenders"][name], name == "prompt_only"), []).append(name)
    return list(grouped.values())


def _first(figures: Mapping[str, Mapping[str, Json]], names: list[str], metric: str) -> Json:
    return next((figures[name][metric] for name in names if metric in figures[name]), None)


def _title(metric: str) -> str:
    return metric.removeprefix(SCORE).replace("_", "-")


def _cell(figure: Mapping[str, Any] | None) -> str:
    return "" if figure is None else shown(Figure(**figure))


def _differences(evaluation: Record) -> list[str]:
    body = evaluation.body
    said = []
    for name, found in body["differences"].items():
        metric = UTILITY if UTILITY in found else "loss"
        said.append(f"{body['candidate']} minus {name}: {_title(metric)} {_cell(found[metric])}")
    changed = body["changed"].get(body["candidate"])
    if changed is not None:
        said.append(f"{changed} of {len(body['rows'])} answers differ from {body['names'][body['start']]}'s")
    if body["start"] in body["differences"] and (sentence := dominant_part(evaluation)):
        said.append(sentence)
    return said


def _judges(judgement: Record | None) -> list[str]:
    if judgement is None:
        return []
    body = judgement.body
    cast = ", ".join(f"{count} {source}" for source, count in sorted(body["votes"].items()))
    agreed = "" if body["agreement"] is None else f"; they agree {_cell(body['agreement'])}"
    return [
        f"{body['candidate']} preferred to {body['reference']}: {_cell(body['win_rate'])} "
        f"({cast} votes of {body['raters']} raters, {body['equal']} equal answers{agreed})",
        *(f"  by {name}: {_cell(figure)}" for name, figure in (body.get("criteria") or {}).items()),
    ]
