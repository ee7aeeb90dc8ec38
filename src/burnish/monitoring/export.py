"""A run's figures in the formats of other tools: JSONL, CSV, Parquet, TensorBoard.

Every format holds one line for each update, and one for the look at held-out rows after the last. A figure that is not
finite stays what it is: spelled "nan", "inf" or "-inf" in JSONL and CSV (JSON has no other word for it), a
floating-point NaN or infinity in Parquet and TensorBoard. A figure that an update did not log is absent (JSONL,
TensorBoard), empty (CSV) or null (Parquet), never a NaN.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from burnish.errors import StoreError
from burnish.monitoring.runs import by_update, is_figure, updates
from burnish.records import FigureFormat, Json

Lines = Sequence[Mapping[str, Json]]
FIRST = ("step", "at")
NEEDS = {"parquet": ("pyarrow", "parquet"), "tensorboard": ("tensorboardX", "tensorboard")}  # module, extra


def export(lines: Lines, format: FigureFormat, out: Path) -> int:
    """Write a run's log to ``out``: a file, or for TensorBoard the folder of a run. Returns the number of updates.

    A file takes the old one's place when it is whole. In TensorBoard each figure is a scalar of 32 bits under its own
    name, with the update's number and time.

    Raises:
        StoreError: The extra that the format needs is not installed, ``out`` cannot be written, or its folder holds
            TensorBoard's events already.
    """
    _require_extra(format)
    rows = by_update(lines)
    try:
        if format == "tensorboard":
            _tensorboard(rows, out)
        else:
            writer = {"jsonl": as_jsonl, "csv": as_csv, "parquet": _parquet}[format]
            _replace(out, writer(rows))
    except OSError as error:
        raise StoreError(f"the figures cannot be written: {error}", where=str(out)) from error
    return updates(rows)


def as_jsonl(rows: Lines) -> bytes:
    """One JSON object a line, as the log holds them."""
    return "".join(json.dumps(row, allow_nan=False, ensure_ascii=False) + "\n" for row in rows).encode()


def as_csv(rows: Lines) -> bytes:
    """A header and a row for each update; what is neither number nor text is JSON in its cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    names = columns(rows)
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return text.getvalue().encode()


def columns(rows: Lines) -> list[str]:
    """The names that were logged, step and time first, the others as they first came."""
    return list(dict.fromkeys([*FIRST, *(name for row in rows for name in row)]))


def _parquet(rows: Lines) -> bytes:
    """Whole numbers as int64, other figures as double, the rest as text."""
    import pyarrow
    import pyarrow.parquet

    arrays = {}
    for name in columns(rows):
        values = [row.get(name) for row in rows]
        known = [value for value in values if value is not None]
        if all(isinstance(value, int) and not isinstance(value, bool) for value in known):
            arrays[name] = pyarrow.array(values, pyarrow.int64())
        elif all(map(is_figure, known)):
            floats = [None if value is None else float(value) for value in values]
            arrays[name] = pyarrow.array(floats, pyarrow.float64(), from_pandas=False)
        else:
            texts = [None if value is None else _text(value) for value in values]
            arrays[name] = pyarrow.array(texts, pyarrow.string())
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(arrays), sink)
    return sink.getvalue().to_pybytes()


def _tensorboard(rows: Lines, out: Path) -> None:
    from tensorboardX import FileWriter
    from tensorboardX.summary import scalar

    if any(out.glob("events.out.tfevents.*")):
        raise StoreError(
            "the folder holds TensorBoard's events already: each figure would be there twice",
            where=str(out),
            mend="name another folder with --out, or remove this one",
        )
    out.mkdir(parents=True, exist_ok=True)
    writer = FileWriter(str(out))
    for row in rows:
        wall = datetime.fromisoformat(row["at"]).timestamp() if "at" in row else None
        for name, value in row.items():
            if name not in FIRST and is_figure(value):
                writer.add_summary(scalar(name, float(value)), row["step"], wall)
    writer.close()


def _cell(value: Json) -> Json:
    return value if value is None or is_figure(value) else _text(value)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _require_extra(format: FigureFormat) -> None:
    module, extra = NEEDS.get(format, (None, None))
    if module is not None and find_spec(module) is None:
        raise StoreError(
            f"the format {format} needs {module}, which is not installed",
            mend=f'pip install "burnish[{extra}]", or take --format csv',
        )


def _replace(out: Path, data: bytes) -> None:
    if out.is_dir():
        raise IsADirectoryError("it is a folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f"{out.name}.", delete=False) as fresh:
        place = Path(fresh.name)
        try:
            fresh.write(data)
            fresh.close()
            place.chmod(0o644)
            place.replace(out)
        except BaseException:
            place.unlink(missing_ok=True)
            raise
