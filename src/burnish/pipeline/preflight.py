"""What `burnish check` says before anything is spent: what is trained of which rows, at what price, and to what end."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from burnish.data import Examples, Renderer, by_reason, contradictions, gather, numbered, read_files
from burnish.evaluation import RULES, check_rules, cluster, never_passes
from burnish.pipeline.advice import Situation, advise
from burnish.pipeline.contracts import contract_lines
from burnish.pipeline.price import Price, price
from burnish.pipeline.project import Project
from burnish.pipeline.refusals import require_possible, stage_settings
from burnish.records import Json, Row, Split
from burnish.training.settings import (
    probe_for,
    sft_settings,
    shown,
)

MOST = 10  # row numbers that a line lists
TRAINED = ("\x1b[1;32m", "\x1b[0m")
UNTRAINED = ("\x1b[2m", "\x1b[0m")
MARKS = ("«", "»")


@dataclass(frozen=True)
class Section:
    """One part of the check: its lines for people, and the same as facts for a script."""

    title: str
    lines: tuple[str, ...]
    facts: Json = None


@dataclass(frozen=True)
class Marked:
    """A row as it is trained: pieces of its text, and whether each is trained."""

    row: int
    pieces: tuple[tuple[str, bool], ...]

    def text(self, colour: bool) -> str:
        """The row with what is trained in bold green, or between « and »; control characters are made visible."""
        done = []
        for piece, trained in self.pieces:
            before, after = (TRAINED if trained else UNTRAINED) if colour else (MARKS if trained else ("", ""))
            done.append(f"{before}{_visible(piece)}{after}")
        return "".join(done)


@dataclass(frozen=True)
class Check:
    """The whole check, in the order in which it is read."""

    sections: tuple[Section, ...]
    example: Marked | None = None

    def lines(self, colour: bool = False) -> list[str]:
        """The check for people."""
        done: list[str] = []
        for section in self.sections:
            done += [section.title, *(f"  {line}" for line in section.lines)]
            if section.title == "tokens" and self.example is not None:
                how = "bold is trained" if colour else "what stands between « and » is trained"
                done.append(f"  training row {self.example.row} ({how}):")
                done += [f"    {line}" for line in self.example.text(colour).splitlines()]
        return done

    def to_json(self) -> dict[str, Json]:
        """The check for a script: each section's facts by its title, and the example's pieces."""
        found: dict[str, Json] = {section.title: section.facts for section in self.sections}
        if self.example is not None:
            pieces = [{"text": text, "trained": trained} for text, trained in self.example.pieces]
            found["example"] = {"row": self.example.row, "pieces": pieces}
        return found


def preflight(project: Project, raters: int | None = None, timed: bool = False) -> Check:
    """Everything that can be known before a step is taken; ``timed`` takes two, and throws them away.

    Without the training extra, or before the base is there, lengths are words instead of tokens. ``raters`` are the
    people at hand; None: those who have registered.

    Raises:
        ConfigError: A gate names a metric that does not exist.
        DataError: A data file is wrong, or leaves nothing to train on.
        ModelError: [adapt] or sft.teacher names what is not there, or leaves nothing to train.
        PartError: An own part cannot be loaded, or breaks its contract.
        StoreError: The recipe names a version that does not exist.
        TrainingError: The base does not fit the memory of this machine, or a stage's settings do not fit its rows.
    """
    recipe = project.recipe
    check_rules(recipe.gate, recipe.evaluate.metrics)  # before the base is fetched or a file read
    renderer = project.renderer if importlib.util.find_spec("torch") else None
    examples = gather(recipe, read_files(recipe, project.folder), renderer)
    held_out = _independent(project, examples.splits["test"])
    own = contract_lines(project, examples.splits["train"], examples.splits.get("prompts", ()))
    if renderer is not None:
        require_possible(project, examples.splits)
    cost = _price(project, examples) if timed and renderer is not None else None
    sections = [
        _data(examples),
        tokens(examples, renderer),
        _likeness(examples),
        *([Section("own parts", tuple(own), own)] if own else []),
        _settings(project, examples),
        *([Section("price", (*cost.lines(), *_on_top(project)), asdict(cost))] if cost else []),
        _gates(project, examples),
        _advice(project, examples, held_out, raters, cost),
    ]
    return Check(tuple(sections), _example(project, examples, renderer))


def _data(examples: Examples) -> Section:
    """Rows read and left out, with their numbers and reasons."""
    lines, facts = [], {}
    for name, reading in examples.readings.items():
        lost = [d for d in examples.dropped if d.where == name]
        read = len(reading.rows) + len(reading.dropped)
        lines.append(f"{name}: {reading.path.name}, {read} rows read ({reading.shape}), {len(lost)} left out")
        lines += [f"  left out: {line}" for line in by_reason((d.number, d.reason) for d in lost)]
        dropped = [{"row": d.number, "reason": d.reason} for d in lost]
        facts[name] = {"file": reading.path.name, "shape": reading.shape, "read": read, "left_out": dropped}
    counts = {name: len(rows) for name, rows in examples.splits.items()}
    lines.append("split: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    lines += examples.odd
    return Section("rows", tuple(lines), {"files": facts, "split": counts, "odd": list(examples.odd)})


def tokens(examples: Examples, renderer: Renderer | None) -> Section:
    """What is trained of each row, the round trip through the template, the stop token, and what a limit would cut."""
    lines, facts = [], {}
    for name, audit in examples.audits.items():
        facts[name] = audit.to_json()
        lines += [f"{name}: {line}" for line in audit.lines()]
        if renderer is None:
            continue
        answered = [row for row in audit.rows if row.trained]
        if answered:
            same = sum(row.odd is None for row in answered)
            stop = _stop([row.number for row in answered if not row.stop], renderer)
            lines.append(f"{name}: template round trip: {same} of {len(answered)} rows give the ids trained; {stop}")
            facts[name]["round_trip"] = same
        cut = {limit: sum(r.longest > limit for r in audit.rows) for limit in _limits(audit.limit)}
        lines.append(
            f"{name}: data.max_length = {audit.limit} cuts nothing (a longer row is refused); "
            + ", ".join(f"{limit} would refuse {count}" for limit, count in cut.items())
        )
        facts[name]["refused_at"] = {str(limit): count for limit, count in cut.items()}
    if renderer is None:
        lines.append("PyTorch is not installed: lengths are in words; the extra 'train' brings it")
    return Section("tokens", tuple(lines), facts)


def _stop(without: Sequence[int], renderer: Renderer) -> str:
    token = _visible(renderer.marked([renderer.stop_ids[0]]))
    if without:
        return f"the stop token {token} is not trained in {numbered(without)}: such answers never end"
    return f"the stop token {token} is trained in every row"


def _limits(limit: int) -> tuple[int, ...]:
    return (limit // 2, limit // 4)


def _likeness(examples: Examples) -> Section:
    """Duplicates within and across splits, and near-identical prompts whose answers contradict each other."""
    within = [d for d in examples.dropped if d.reason.startswith("repeats row")]
    across = [d for d in examples.dropped if "nearly repeats" in d.reason]
    against = {name: contradictions(examples.splits[name]) for name in ("train", "dev", "test")}
    lines = [
        f"duplicates within a file: {len(within)}" + _places([(d.where, d.number) for d in within]),
        f"near-duplicates across splits, left out: {len(across)}" + _places([(d.where, d.number) for d in across]),
    ]
    for name, pairs in against.items():
        if pairs:
            shown = ", ".join(f"{a}/{b}" for a, b in pairs[:MOST]) + (" ..." if pairs[MOST:] else "")
            lines.append(f"{name}: contradicting answers to near-identical prompts: {len(pairs)} (rows {shown})")
    if not any(against.values()):
        lines.append("contradicting answers to near-identical prompts: none")
    facts = {
        "within": [{"file": d.where, "row": d.number, "reason": d.reason} for d in within],
        "across": [{"file": d.where, "row": d.number, "reason": d.reason} for d in across],
        "contradictions": {name: [list(pair) for pair in pairs] for name, pairs in against.items()},
    }
    return Section("likeness", tuple(lines), facts)


def _settings(project: Project, examples: Examples) -> Section:
    """What every "auto" becomes, and why."""
    lines, facts = [], dict[str, Json]()
    for stage, choices, rows, unseen in stage_settings(project, examples.splits):
        facts[stage] = shown(choices)
        lines += [f"{_table(stage, name)}.{name} = {choice.value} ({choice.why})" for name, choice in choices.items()]
        if "epochs" in choices:
            batch, epochs = choices["batch_size"].value, choices["epochs"].value
            facts[stage]["probe"] = probe_for(choices["learning_rate"], -(-rows // batch) * epochs, batch, unseen)[1]
            lines.append(f"{stage}.learning_rate: {facts[stage]['probe']}")
    return Section("settings", tuple(dict.fromkeys(lines)), facts)


def _table(stage: str, name: str) -> str:
    """The table of the recipe that holds a stage's setting."""
    return "adapt" if name in ("rank", "alpha") else stage


def _gates(project: Project, examples: Examples) -> Section:
    """The rules that decide, and those that no candidate could pass."""
    recipe = project.recipe
    sides = {"base", "start", "production"} | ({"prompt_only"} if recipe.evaluate.prompt_only else set())
    scored = recipe.feedback.simulate is not None
    improver = "preference" if recipe.preference else "rl" if recipe.rl else None
    asked: list[tuple[str, Split]] = [(improver or "sft", "test")]
    if improver:  # what lets the supervised version serve while people vote
        asked.insert(0, ("sft", "dev"))
    lines, facts = [], []
    for stage, split in asked:
        rules = recipe.gate if recipe.gate and split == "test" else RULES[stage]
        clusters = _independent(project, examples.splits[split])
        known = sides if split == "test" else sides - {"production", "prompt_only"}
        lines.append(f"{stage}: {len(rules)} rules on {clusters} independent {split} prompts")
        never = dict[str, list[str]]()
        for rule in rules:
            why = never_passes(rule, clusters, known, judged=stage != "sft", scored=scored)
            facts.append({"stage": stage, "split": split, "metric": rule.metric, "never": why})
            if why:
                never.setdefault(why, []).append(rule.metric)
        for why, metrics in never.items():
            about = ", ".join(dict.fromkeys(metrics))
            lines.append(f"{stage}: the rule{'s' * (len(metrics) > 1)} on {about} can never pass: {why}")
    if any(fact["never"] for fact in facts):
        lines.append("add held-out rows (data.dev, data.test), or change the rule: a run would end in a no")
    return Section("gates", tuple(lines), facts)


def _independent(project: Project, rows: Sequence[Row]) -> int:
    """Different people or prompts among the held-out rows that are answered."""
    return min(project.recipe.evaluate.items, len({cluster(row) for row in rows}))


def _price(project: Project, examples: Examples) -> Price:
    rows = [row for row in examples.splits["train"] if row.answer is not None]
    return price(project, rows, sft_settings(project.recipe, len(rows)))


def _on_top(project: Project) -> list[str]:
    """What the timed updates leave out."""
    teacher = project.recipe.sft.teacher
    return [f"sft.teacher: what {teacher} takes to read the rows comes on top"] if teacher else []


def _advice(project: Project, examples: Examples, held_out: int, raters: int | None, cost: Price | None) -> Section:
    recipe = project.recipe
    simulated = recipe.feedback.simulate is not None
    votes = project.votes_cast() if project.has_store else 0
    known = project.raters_known() if project.has_store else 0
    answered = sum(row.answer is not None for row in examples.splits["train"])
    own = recipe.rl is not None and any(part.kind != "learned" for part in recipe.rl.paid)
    people = known if raters is None else raters
    seconds, fits = (cost.seconds, cost.fits) if cost else (None, None)
    pairs = len(examples.splits.get("preferences", []))
    judge = recipe.feedback.judge.model if recipe.feedback.judge and "judge" in recipe.feedback.sources else None
    lines = advise(Situation(answered, held_out, votes, people, simulated, judge, seconds, fits, own, pairs))
    return Section("advice", (*lines, "(rules of thumb, each with the number behind it)"), lines)


def _example(project: Project, examples: Examples, renderer: Renderer | None) -> Marked | None:
    """A training row of middling length as it is trained, piece by piece."""
    if renderer is None:
        return None
    from burnish.tasks import task_for

    rows = [row for row in examples.splits["train"] if row.answer is not None]
    row = sorted(rows, key=lambda r: len(r.answer or ""))[len(rows) // 2]
    tree = task_for(project.recipe, renderer).trained(row)
    pieces = [(renderer.marked(tree.prompt), False)]
    for answer in tree.answers:
        runs: list[tuple[list[int], bool]] = []
        for id, weight in zip(answer.ids, answer.weights, strict=True):
            if not runs or runs[-1][1] != (weight > 0):
                runs.append(([], weight > 0))
            runs[-1][0].append(id)
        pieces += [(renderer.marked(ids), trained) for ids, trained in runs]
    return Marked(row.number, tuple(pieces))


def _visible(text: str) -> str:
    """Text from data, without what would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def _places(places: Sequence[tuple[str, int]]) -> str:
    if not places:
        return ""
    return f" ({', '.join(f'{name} {row}' for name, row in places[:MOST])}{' ...' if places[MOST:] else ''})"
