"""Bugs of the exported figures: what is not finite is covered up, what was logged twice counts twice."""

from __future__ import annotations

from mutations.case import Mutation

MONITORING = "src/burnish/monitoring"
EXPORT = "tests/monitoring/test_export.py"

MUTATIONS = [
    Mutation(
        "a figure that was not logged is exported as NaN",
        f"{MONITORING}/export.py",
        "floats = [None if value is None else float(value) for value in values]",
        'floats = [float("nan" if value is None else value) for value in values]',
        f"{EXPORT}::test_parquet_keeps_types_nan_and_what_is_absent",
    ),
    Mutation(
        "a figure that is not finite is left out of TensorBoard",
        f"{MONITORING}/export.py",
        "if name not in FIRST and is_figure(value):",
        "if name not in FIRST and isinstance(value, int | float):",
        f"{EXPORT}::test_tensorboard_reads_every_scalar_at_its_update",
    ),
    Mutation(
        "the figures that a crash undid stand",
        f"{MONITORING}/runs.py",
        '{**found.get(line["step"], {}), **line}',
        '{**line, **found.get(line["step"], {})}',
        f"{EXPORT}::test_jsonl_is_the_log_with_one_line_for_each_update",
    ),
]
