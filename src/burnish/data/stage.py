"""The stage that turns the recipe's files into a dataset: read, clean, audit, split, keep apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from burnish.config import Recipe
from burnish.data.audit import Audit, audit
from burnish.data.clean import oddities, opposed, without_duplicates
from burnish.data.preferences import judged
from burnish.data.read import CLEAN, Dropped, Reading, read_rows, require_good
from burnish.data.reader import Wanted
from burnish.data.reasons import by_reason
from burnish.data.render import Renderer
from burnish.data.shapes import named
from burnish.data.split import Splits, keep_apart, split, split_by_likeness
from burnish.errors import DataError
from burnish.progress import Progress, Silent
from burnish.records import Json, Record, Row, Split
from burnish.store import Store, Work

VERSION = 1
WANTED: Mapping[Split, Wanted] = {"prompts": "prompts", "preferences": "preferences"}


@dataclass(frozen=True, slots=True)
class Examples:
    """The recipe's rows by split, what was left out and why, what is odd, and the audit of each file."""

    splits: Splits
    dropped: tuple[Dropped, ...]
    odd: tuple[str, ...]
    readings: Mapping[Split, Reading]
    audits: Mapping[Split, Audit]

    def body(self) -> dict[str, Json]:
        """What the dataset's record says: counts and reasons with row numbers, no text of any row."""
        return {
            "counts": {name: len(rows) for name, rows in self.splits.items()},
            "subjects": len({r.subject for rows in self.splits.values() for r in rows if r.subject is not None}),
            "shape": {name: reading.shape for name, reading in self.readings.items()},
            "files": {name: reading.digest for name, reading in self.readings.items()},
            "dropped": [{"split": d.where, "row": d.number, "reason": d.reason} for d in self.dropped],
            "odd": list(self.odd),
            "audit": {name: found.to_json() for name, found in self.audits.items()},
        }


def read_files(recipe: Recipe, folder: Path) -> dict[Split, Reading]:
    """The recipe's data files, relative to ``folder``.

    Raises:
        DataError: A file is wrong, or has rows that cannot be used.
    """
    data = recipe.data
    paths: dict[Split, str | None] = {
        "train": data.train,
        "dev": data.dev,
        "test": data.test,
        "prompts": data.prompts,
        "preferences": data.preferences,
    }
    readings: dict[Split, Reading] = {}
    for name, path in paths.items():
        if path is not None:
            readings[name] = read_rows(folder / path, subject=data.subject, wanted=WANTED.get(name, "answers"))
            require_good(readings[name])
    return readings


def gather(recipe: Recipe, readings: Mapping[Split, Reading], renderer: Renderer | None) -> Examples:
    """The rows of the recipe as they will be trained and tested on; writes nothing.

    Duplicates go first, then the files are split, then the splits are kept apart.

    Raises:
        DataError: A row does not fit data.max_length, or no training row is left.
    """
    dropped: list[Dropped] = []
    audits: dict[Split, Audit] = {}
    kept: dict[Split, list[Row]] = {}
    for name, reading in readings.items():
        rows, repeated = without_duplicates(reading.rows, where=name)
        train_on = "last" if name == "preferences" else recipe.sft.train_on
        audits[name] = audit(rows, renderer, recipe.data.max_length, train_on)
        _require_whole(reading, audits[name])
        kept[name] = rows
        dropped += repeated
    apart, lost, notes = _cut(recipe, kept)
    if not apart["train"]:
        said = "; ".join(str(d) for d in (*dropped, *lost)[:3])
        raise DataError(
            f"no training row is left: {said or 'all are held out'}", where=str(readings["train"].path),
            mend="add rows, raise data.max_length, or lower data.dev_share and data.test_share",
        )  # fmt: skip
    notes += [f"{name}: {note}" for name, note in _notes(readings, apart)] + _unread_weights(recipe, apart["train"])
    notes += _unread_marks(recipe, readings["train"]) + _unlearned_marks(recipe, readings.get("preferences"))
    return Examples(
        splits=apart,
        dropped=(*dropped, *lost),
        odd=tuple(notes),
        readings=readings,
        audits=audits,
    )


def prepare(
    recipe: Recipe, folder: Path, store: Store, renderer: Renderer | None, progress: Progress | None = None
) -> Record:
    """The recipe's dataset, kind "dataset", with its rows in the splits train, dev, test, prompts and preferences.

    The seed of the recipe has no part in it: all seeds share one split.

    Raises:
        DataError: A file is wrong, has bad rows, or leaves nothing to train on.
    """
    progress = progress or Silent()
    readings = read_files(recipe, folder)
    settings = {
        **recipe.data.model_dump(include={"subject", "dev_share", "test_share", "max_length"}),
        "files": {name: reading.digest for name, reading in readings.items()},
        "renderer": renderer.fingerprint if renderer else None,
        **({} if recipe.sft.train_on == "last" else {"train_on": recipe.sft.train_on}),
    }
    work = Work("dataset", "prepare", VERSION, settings, (), 0, recipe.name)
    examples: list[Examples] = []

    def make() -> Mapping[str, Json]:
        examples.append(gather(recipe, readings, renderer))
        for line in report(examples[0]):
            progress.say(line)
        return examples[0].body()

    def within(conn: Connection) -> None:
        for name, rows in examples[0].splits.items():
            store.datasets.add(conn, work.id, name, rows)

    return store.once(work, make, progress=progress, within=within)


def report(examples: Examples) -> list[str]:
    """What was read, for people: a line for each split, then what was left out and what is odd."""
    counts = ", ".join(f"{len(rows)} {name}" for name, rows in examples.splits.items() if rows)
    lines = [f"data: {counts} rows ({'; '.join(sorted({r.shape for r in examples.readings.values()}))})"]
    for where in dict.fromkeys(dropped.where for dropped in examples.dropped):
        lost = [(dropped.number, dropped.reason) for dropped in examples.dropped if dropped.where == where]
        lines += [f"  left out of {where}: {line}" for line in by_reason(lost)]
    return lines + [f"  {note}" for note in examples.odd]


def _require_whole(reading: Reading, found: Audit) -> None:
    """A row that does not fit is a mistake to mend, not one to cut: half an answer would be trained without its end."""
    if found.bad:
        said = "\n".join(f"  {line}" for line in by_reason((row.number, row.problem or "") for row in found.bad))
        numbered = ' (numbered by the field "row")' if reading.path.name.endswith(CLEAN) else ""
        raise DataError(
            f"{len(found.bad)} row{'s' * (len(found.bad) > 1)} cannot be trained whole{numbered}:\n{said}",
            where=str(reading.path),
            mend="raise data.max_length, shorten these rows, or take them out",
        )


def _cut(recipe: Recipe, kept: Mapping[Split, list[Row]]) -> tuple[Splits, list[Dropped], list[str]]:
    """The splits, kept apart; the rows that this cost; and what a person should know of it."""
    given: Splits = {name: rows for name, rows in kept.items() if name != "train"}
    shares = {
        "dev": 0.0 if "dev" in given else recipe.data.dev_share,
        "test": 0.0 if "test" in given else recipe.data.test_share,
    }
    movable = frozenset[Split](name for name in ("dev", "test") if shares[name])
    first = split(kept["train"], shares["dev"], shares["test"])
    apart, lost = keep_apart({**first, **given}, movable)
    if all(2 * len(apart[name]) >= len(first[name]) for name in movable):
        moved = len(apart["train"]) - len(first["train"])
        note = f"held-out rows that joined the training rows, which they nearly repeat: {moved}"
        return apart, lost, [note] if moved else []
    alike = split_by_likeness(kept["train"], shares["dev"], shares["test"])
    apart, lost = keep_apart({**alike, **given}, movable)
    return apart, lost, ["most prompts nearly repeat another: like ones were held out together"]


def _unread_weights(recipe: Recipe, rows: Sequence[Row]) -> list[str]:
    """Weights of earlier answers that count for nothing, because only the last answer is trained."""
    unread = sum(any(weight != 1 for weight in row.weights[:-1]) for row in rows)
    if recipe.sft.train_on != "last" or not unread:
        return []
    return [f'train: rows with a weight on an earlier answer: {unread}; it counts with sft.train_on = "all" only']


def _unread_marks(recipe: Recipe, train: Reading) -> list[str]:
    """Marked errors that no weight speaks about.

    Raises:
        DataError: A weight is of a kind of error that no row marks.
    """
    kinds = Counter(mark.kind for row in train.rows for mark in row.marks or ())
    strange = sorted(set(recipe.sft.span_weights) - set(kinds))
    if strange:
        raise DataError(
            f'sft.span_weights names "{strange[0]}", and no row marks an error of that type',
            where=str(train.path),
            mend=f"its spans are of {', '.join(sorted(kinds)) or 'no type: it has none'}",
        )
    unread = [f"{kind} ({number})" for kind, number in kinds.most_common() if kind not in recipe.sft.span_weights]
    return [f"train: marked spans that count like other text: {', '.join(unread)} (sft.span_weights)"] if unread else []


def _unlearned_marks(recipe: Recipe, judged: Reading | None) -> list[str]:
    """Marked errors that no head of [spans] learns.

    Raises:
        DataError: [spans] names a type that no row marks, or none is marked at all.
    """
    marks = [row.marks for row in judged.rows if row.marks is not None] if judged is not None else []
    kinds = Counter(mark.kind for each in marks for mark in each)
    types = recipe.spans.types if recipe.spans is not None and "rows" in recipe.spans.learn_from else {}
    strange = sorted(set(types) - set(kinds))
    if judged is not None and strange:
        known = f"its spans are of {', '.join(sorted(kinds))}" if kinds else "its rows have no spans"
        what = f'spans.types names "{strange[0]}", and no row marks an error of that type'
        raise DataError(what, where=str(judged.path), mend=known)
    unread = [f"{kind} ({number})" for kind, number in kinds.most_common() if kind not in types]
    return [f"preferences: marked spans that teach nothing: {', '.join(unread)} (spans.types)"] if unread else []


def _notes(readings: Mapping[Split, Reading], splits: Splits) -> list[tuple[Split, str]]:
    notes = [(name, note) for name, reading in readings.items() for note in reading.odd]
    notes += [(name, f"columns not used: {named(found.unused)}") for name, found in readings.items() if found.unused]
    notes += [("train", note) for note in oddities(splits["train"])]
    notes += [("preferences", note) for note in opposed(judged(splits.get("preferences", ())))]
    for name in ("dev", "test"):
        if not splits[name]:
            notes.append((name, f"no row is held out: add rows unlike the others, or name them in data.{name}"))
    return notes
