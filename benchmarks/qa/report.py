"""What came out on held-out questions: the reward against people, and RL against SFT by judges that never met them.

    python benchmarks/qa/report.py FOLDER/qa.toml --seed 0     # trains that seed, then measures it
    python benchmarks/qa/report.py FOLDER/qa.toml              # pools the seeds that are measured

FOLDER is what ``prepare.py`` wrote, or one of your own: a recipe with ``[reward]`` and ``[rl]``, and ``judged.json``
with what people said about answers to questions that are in no training file. Both calls go on where they were
stopped, and do nothing twice. What each figure means is in docs/results-qa.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import combinations, permutations
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
import torch
from judges import Array, Question, cross_fitted

from burnish.models.artifacts import Loaded, load_rewards, load_version
from burnish.models.spans import SpanModel
from burnish.objectives import Answer, Tree, pack
from burnish.pipeline import Project
from burnish.progress import Plain
from burnish.records import Figure, Message, Record, Row
from burnish.rewards.learned import score_answers
from burnish.rewards.scores import Asked as Prompt
from burnish.rewards.spans import Dense, SpanReader
from burnish.sampling import Engine, Params, Sample
from burnish.statistics import crossed_bootstrap, mean_interval
from burnish.store import digest_of
from burnish.training.measured import as_trees, with_reference

SAMPLES = 4  # answers of each side to a question, at temperature 1 as in training
BUDGET = 2048  # tokens in a forward
FIRST, SECOND = 1, 2  # what people preferred of a pair; anything else is no preference
VISIBLE = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)  # standard errors: two-sided 5 %, power 80 %
TITLES = {
    "reward": "reward model: agrees with people",
    "ceiling": "  best ranking of each question's answers",
    "longer": "  the longer answer is better",
    "marks": "dense reward: agrees with people",
    "judges": "judges: agree with people on questions they never met",
    "wins": "RL preferred to SFT by the judges",
    "kl": "KL to SFT, nats a token",
    "length": "tokens, RL minus SFT",
    "length_sft": "  SFT",
    "length_rl": "  RL",
    "cut": "cut at the limit, RL minus SFT",
    "updates": "RL updates kept",
}
Asked = dict[str, Any]
ByQuestion = list[float | None]


def decided(item: Asked) -> list[tuple[int, int]]:
    """What people said about a question's answers: (better, worse), without pairs whose texts are equal."""
    answers = item["answers"]
    pairs = zip(combinations(range(len(answers)), 2), item["preference"], strict=True)
    return [
        (a, b) if choice == FIRST else (b, a)
        for (a, b), choice in pairs
        if choice in (FIRST, SECOND) and answers[a] != answers[b]
    ]


def agreement(scores: Sequence[Sequence[float]], asked: Sequence[Asked]) -> ByQuestion:
    """For each question the share of its comparisons that the scores order as people did; None where there is none.

    Equal scores are right half of the time.
    """
    found: ByQuestion = []
    for scored, item in zip(scores, asked, strict=True):
        hits = [float(scored[a] > scored[b]) + 0.5 * (scored[a] == scored[b]) for a, b in decided(item)]
        found.append(fmean(hits) if hits else None)
    return found


def ceiling(asked: Sequence[Asked]) -> ByQuestion:
    """The agreement of the ranking that fits each question best: below 1 only where people's choices go in circles."""

    def best(item: Asked) -> Sequence[float]:
        orders = permutations(map(float, range(len(item["answers"]))))
        return max(orders, key=lambda order: agreement([order], [item])[0] or 0.0)

    return agreement([best(item) for item in asked], asked)


def wins(rl: Sequence[Sequence[float]], sft: Sequence[Sequence[float]]) -> ByQuestion:
    """For each question the share of pairs of an RL and an SFT answer in which the judge's score of RL's is higher."""
    return [fmean((a > b) + 0.5 * (a == b) for a in ours for b in theirs) for ours, theirs in zip(rl, sft, strict=True)]


def smallest_visible(wins_N: Sequence[float], accuracy: float) -> float | None:
    """The smallest lead over a half, in people's preferences, that these judges would see with a power of 80 %.

    A judge that is right with probability q turns a lead d into d (2 q - 1). None where it is no better than a coin.
    """
    if accuracy <= 0.5:
        return None
    return VISIBLE * stdev(wins_N) / math.sqrt(len(wins_N)) / (2 * accuracy - 1)


def pooled(tables: Sequence[ByQuestion], seed: int = 0) -> Figure:
    """The mean over seeds and questions; both are drawn again for the interval where there are several seeds."""
    rows = [[value for value in table if value is not None] for table in tables]
    if len(rows) == 1:
        return mean_interval(rows[0], range(len(rows[0])), seed=seed)
    return crossed_bootstrap(rows, seed=seed)


class Parts:
    """Measured parts in a folder: each is computed once, and whole or not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, name: str, of: Sequence[Record], make: Callable[[], Any]) -> Any:
        """The part ``name`` of these records, as JSON gives it back."""
        path = self.folder / f"{name}-{digest_of([record.id for record in of])[:16]}.json"
        if not path.exists():
            half = path.with_suffix(".part")
            half.write_text(json.dumps(make(), allow_nan=False))
            half.replace(path)
        return json.loads(path.read_text())


def sampled(version: Loaded, prompts: Sequence[Sequence[int]], longest: int, seed: int) -> list[list[dict[str, Any]]]:
    """``SAMPLES`` answers to each question."""
    params = Params(1.0, 1.0, longest, seed, version.renderer.stop_ids)
    groups = Engine(version.model, slots=64).sample(prompts, SAMPLES, params, progress=Plain())
    return [[{"ids": s.ids, "logprobs": s.logprobs, "why": s.finish_reason} for s in group] for group in groups]


def kl(reference: Loaded, prompts: Sequence[Sequence[int]], said: Sequence[Sequence[dict[str, Any]]]) -> list[float]:
    """For each question the mean of log policy - log reference over its answers' tokens."""
    samples = [[Sample(tuple(s["ids"]), tuple(s["logprobs"]), s["why"]) for s in group] for group in said]
    found = []
    for tree in with_reference(as_trees(prompts, samples), reference.model, 1.0):
        both = [(answer.streams["old_logp"], answer.streams["reference_logp"]) for answer in tree.answers]
        found.append(fmean(own - start for old, then in both for own, start in zip(old, then, strict=True)))
    return found


@torch.no_grad()
def features(
    version: Loaded, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[Sequence[int]]]
) -> list[Array]:
    """For each question the hidden states of its answers' last tokens [A, D]: what a judge reads."""
    trees = [
        Tree(prompt, tuple(Answer(ids, [0.0] * len(ids)) for ids in group))
        for prompt, group in zip(prompts, answers, strict=True)
    ]
    model = version.model
    states = [model.hidden(stream, stream.last_A).float() for stream in pack(trees, BUDGET)]
    found = iter(torch.cat(states).double().cpu().numpy())
    return [np.array([next(found) for _ in group]) for group in answers]


def paid_by_marks(
    project: Project,
    record: Record,
    sft: Loaded,
    prompts: Sequence[Sequence[int]],
    answers: Sequence[Sequence[Sequence[int]]],
) -> list[list[float]]:
    """What the recipe's dense parts alone pay for answers, an answer's sum; ``record`` is of what learned them."""
    (model,) = load_rewards(project.store, [record], project.cache, like=sft, kind=SpanModel)
    read, rl = SpanReader(model, sft.renderer), project.recipe.rl
    asked = [Prompt(ids, Row((), None, number)) for number, ids in enumerate(prompts, 1)]
    samples = [[Sample(tuple(ids), (), "stop") for ids in group] for group in answers]
    rows = [row for row in (rl.paid if rl is not None else ()) if row.kind == "spans"]
    paid = [(row.weight, Dense(read, row.type or "", row.per)(asked, samples).values) for row in rows]
    return [
        [sum(weight * (values[n][g] or 0.0) for weight, values in paid) for g in range(len(group))]
        for n, group in enumerate(samples)
    ]


def judged(
    sft: Loaded, prompts: Sequence[Sequence[int]], asked: Sequence[Asked], said: dict[str, Any]
) -> dict[str, Any]:
    """What cross-fitted judges make of the known answers and of both versions' own."""
    known = [[sft.renderer.answer(text) for text in item["answers"]] for item in asked]
    read = partial(features, sft, prompts)
    questions = [Question(found, decided(item)) for found, item in zip(read(known), asked, strict=True)]
    return cross_fitted(
        questions, {name: read([[s["ids"] for s in group] for group in groups]) for name, groups in said.items()}
    )


def measured(project: Project, made: Mapping[str, Record], parts: Parts) -> dict[str, ByQuestion]:
    """Every figure of a trained seed, whose records are ``made``, question by question."""
    recipe, store, cache = project.recipe, project.store, project.cache
    asked = json.loads((project.folder / "judged.json").read_text())
    versions = {"sft": made["sft"], "rl": made["candidate"]}
    sft, rl = (load_version(store, record, cache, progress=project.progress) for record in versions.values())
    prompts = [sft.renderer.prompt([Message("user", item["prompt"])]) for item in asked]
    known = [[sft.renderer.answer(text) for text in item["answers"]] for item in asked]
    learned = load_rewards(store, [made["reward"]], cache, like=sft)[0]
    scores = parts("reward", [made["reward"]], lambda: score_answers(learned, prompts, known))
    longest = recipe.evaluate.max_new_tokens
    said = {
        name: parts("said", [versions[name]], partial(sampled, version, prompts, longest, recipe.seed))
        for name, version in (("sft", sft), ("rl", rl))
    }
    both = list(versions.values())
    by_judges = parts("judges", both, lambda: judged(sft, prompts, asked, said))
    length = {name: [fmean(len(s["ids"]) for s in group) for group in groups] for name, groups in said.items()}
    cut = {name: [fmean(s["why"] == "length" for s in group) for group in groups] for name, groups in said.items()}
    spans = [made["spans"]] if "spans" in made else []
    marks = [parts("marks", spans, partial(paid_by_marks, project, record, sft, prompts, known)) for record in spans]
    return {
        "reward": agreement(scores, asked),
        **({"marks": agreement(marks[0], asked)} if marks else {}),
        "ceiling": ceiling(asked),
        "longer": agreement([[float(len(ids)) for ids in group] for group in known], asked),
        "judges": agreement(by_judges["known"], asked),
        "wins": wins(by_judges["rl"], by_judges["sft"]),
        "kl": list(parts("kl", both, lambda: kl(sft, prompts, said["rl"]))),
        "length": [a - b for a, b in zip(length["rl"], length["sft"], strict=True)],
        "length_sft": list(length["sft"]),
        "length_rl": list(length["rl"]),
        "cut": [a - b for a, b in zip(cut["rl"], cut["sft"], strict=True)],
        "updates": [float(made["candidate"].body["figures"]["updates"])] * len(asked),
    }


def lines(seeds: Sequence[dict[str, ByQuestion]]) -> list[str]:
    """The report of the measured seeds."""
    figures = {name: pooled([seed[name] for seed in seeds]) for name in TITLES if name in seeds[0]}
    by_question = [fmean(seed["wins"][n] or 0.0 for seed in seeds) for n in range(len(seeds[0]["wins"]))]
    visible = smallest_visible(by_question, figures["judges"].value)
    said = [f"{len(seeds)} seed{'s' * (len(seeds) > 1)}, {len(by_question)} held-out questions", ""]
    for name, figure in figures.items():
        said.append(f"{TITLES[name]:54} {figure.value:+8.3f}  [{figure.low:+.3f}, {figure.high:+.3f}]")
    least = "none: they are no better than a coin" if visible is None else f"{visible:.3f} above or below a half"
    return [*said, f"{'smallest lead of a side that the judges would see':54} {least}"]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path, help="the recipe; judged.json lies beside it")
    parser.add_argument("--seed", type=int, help="train and measure this one; without it, pool what is measured")
    arguments = parser.parse_args(argv)
    project = Project(arguments.recipe)
    folder = project.folder / "report" / arguments.recipe.stem
    if arguments.seed is None:
        found = sorted(folder.glob("seed-*.json"))
        if not found:
            parser.error(f"no seed of {arguments.recipe} is measured yet: name one with --seed")
        print("\n".join(lines([json.loads(path.read_text()) for path in found])))
        return
    run = project.with_seed(arguments.seed)
    made = run.train().records
    asked = digest_of(json.loads((project.folder / "judged.json").read_text()))
    figures = measured(run, made, Parts(folder.parent / f"parts-{asked[:8]}"))
    folder.mkdir(exist_ok=True)
    (folder / f"seed-{arguments.seed}.json").write_text(json.dumps(figures))
    print("\n".join(lines([figures])))


if __name__ == "__main__":
    main()
