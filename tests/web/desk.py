"""A support desk that went round once: real texts and real votes, gate and promotions; figures drawn around a mean.

The versions answer with whatever weights the caller's ``body`` names, so that the pages can be tested without torch,
and a served desk with the tiny model.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from burnish import feedback, registry
from burnish.config import Recipe
from burnish.evaluation import decide, judge_campaign, judged
from burnish.evaluation.metrics import difference_of, figure_of, ratio_numbers, text_numbers
from burnish.recipes.support.raters import panel, parts, utility
from burnish.records import Exchange, Json, Message, Record, Row
from burnish.store import RunLog, Store, Work, now, open_store

SUPPORT = Path(__file__).parents[2] / "src" / "burnish" / "recipes" / "support"
PROJECT = "support"
RECIPE = Recipe.model_validate(
    {
        "name": PROJECT,
        "task": "chat",
        "base": "tiny",
        "data": {"train": "train.jsonl"},
        "sft": {"span_weights": {"invented": 0.0, "rude": 0.5}},
        "feedback": {"simulate": "support-desk", "sources": ("simulated", "human")},
        "reward": {},
        "rl": {},
        "serve": {"max_tokens": 48},
    }
)
NO_WEIGHTS: Mapping[str, Json] = {"stage": "base", "base": {"name": "tiny", "digest": "0" * 64}, "adapter": None}


@dataclass
class Desk:
    """The store and the records that tests name."""

    store: Store
    body: Mapping[str, Json] = field(default_factory=lambda: NO_WEIGHTS)
    made: dict[str, Record] = field(default_factory=dict)
    last: int = 0
    recipe: Recipe = RECIPE

    def record(self, kind: str, stage: str, body: Mapping[str, Json], parents: Sequence[Record] = ()) -> Record:
        work = self.work(kind, stage, parents)
        return self.store.once(work, lambda: body)

    def work(self, kind: str, stage: str, parents: Sequence[Record] = (), **settings: Json) -> Work:
        return Work(kind, stage, 1, settings, tuple(parents), 0, PROJECT)

    def version(self, stage: str, parents: Sequence[Record], settings: Json, figures: Json) -> Record:
        choices = {name: {"value": value, "why": why} for name, (value, why) in settings.items()}
        body = {**self.body, "stage": stage, "settings": choices, "figures": figures}
        made = self.record("version", stage, body, parents)
        self.made[stage] = made
        return made

    def say(self, said: Sequence[tuple[str, Row, str]], version: Record, purpose: str = "feedback") -> None:
        """Keep answers, each given as its id, what it answers, and its text."""
        with self.store.write() as conn:
            for id, row, answer in said:
                ids = tuple(range(len(answer.split()) + 1))
                exchange = Exchange(
                    id=id,
                    project=PROJECT,
                    version=version.id,
                    purpose=purpose,
                    prompt=row.prompt,
                    answer=answer,
                    prompt_ids=(1, 2, 3),
                    answer_ids=ids,
                    logprobs=tuple(-0.5 for _ in ids),
                    finish_reason="stop",
                    created_at=now(),
                    settings={"stopped_by_string": False},
                    latency_ms=420.0,
                )
                self.store.exchanges.add(conn, exchange)

    def pairs(self, version: Record, said: Sequence[tuple[Row, str, str]], campaign: str) -> list[str]:
        """Put two answers to each row before the raters; returns the comparisons' ids."""
        named = [(f"{campaign}-{at}a", f"{campaign}-{at}b", *pair) for at, pair in enumerate(said)]
        self.say([(id, row, text) for a, b, row, x, y in named for id, text in ((a, x), (b, y))], version)
        ids = [(a, b) for a, b, *_ in named]
        made = feedback.add_comparisons(self.store, PROJECT, ids, purpose="train", campaign=campaign, votes_wanted=1)
        return [item.id for item in made]

    def person(self, name: str, choose: Sequence[str]) -> None:
        """A person judges the next pairs."""
        rater = feedback.ensure_rater(self.store, PROJECT, name)
        for number, choice in enumerate(choose):
            offer = feedback.next_comparison(self.store, PROJECT, rater)
            assert offer is not None
            feedback.record_vote(
                self.store,
                PROJECT,
                rater,
                "compare",
                key=f"{name}-{number}",
                comparison=offer.comparison,
                choice=choice,
            )


def empty(folder: Path) -> Desk:
    """A desk at which nothing has happened."""
    return Desk(open_store(folder / ".burnish"))


def went_round(
    folder: Path, weights: Callable[[Store], Mapping[str, Json]] | None = None, refused: bool = False
) -> Desk:
    """A desk after its first turn: support@2 serves, or support@1 where the gate ``refused``.

    ``weights`` puts a model into the store and returns what its version's record holds.
    """
    desk = Desk(open_store(folder / ".burnish"))
    if weights is not None:
        desk.body = weights(desk.store)
    rows = {name: rows_of(name) for name in ("train", "dev", "test", "prompts")}
    dataset = _dataset(desk, rows)
    base = desk.version("base", (), {}, {})
    settings: Json = {"learning_rate": (0.001, "auto: low-rank adapters on a small model"), "epochs": (1, "recipe")}
    sft = desk.version("sft", (base, dataset), settings, {"updates": 32, "rows": 256, "tokens": 9431})
    _log_sft(desk, sft)
    _first_gate(desk, base, sft, dataset, rows["dev"])
    campaign = desk.pairs(sft, _neighbours(rows["train"], rows["train"], 40), "support-1")
    feedback.simulate_votes(desk.store, PROJECT, "support-1", panel(0)[0])
    desk.made["campaign"] = desk.record(
        "campaign", "collect", {"campaign": "support-1", "comparisons": len(campaign)}, (sft, dataset)
    )
    snapshot = feedback.snapshot(desk.store, PROJECT, (sft,), 0, ["human", "simulated"])
    reward = _reward(desk, sft, snapshot, [])
    settings = {"learning_rate": (0.0005, "auto: low-rank adapters, few updates"), "kl": (0.02, "auto: a leash")}
    figures = {
        "updates": 16,
        "stopped": None,
        "before": {"dev_reward": 0.31, "dev_kl": 0.0},
        "after": {"dev_reward": 1.12},
    }
    rl = desk.version("rl", (sft, reward, dataset), settings, figures)
    _log_rl(desk, rl, sft, rows["prompts"])
    share = 0.3 if refused else 0.9  # far from the gate's bound: the raters draw anew where ids differ
    verdict = _last_gate(desk, base, sft, rl, dataset, rows, share)
    assert verdict.body["passed"] is not refused, verdict.body["rules"]
    if not refused:
        registry.promote(desk.store, PROJECT, rl.id, by="burnish run")
    stages = {"dataset": dataset, "base": base, "sft": sft, "snapshot": snapshot, "reward": reward, "candidate": rl}
    stages |= {"evaluation": desk.made["evaluation"], "judgement": desk.made["judgement"], "verdict": verdict}
    desk.pairs(rl, _neighbours(rows["prompts"], rows["train"], 24), "support-2")
    turn = {"number": 1, "stages": {name: record.id for name, record in stages.items()}, "passed": not refused}
    desk.made["turn"] = desk.record("turn", "turn", turn, tuple({r.id: r for r in stages.values()}.values()))
    return desk


def waiting(folder: Path, votes: int) -> Desk:
    """A desk at which support@1 serves and people have cast so many of the votes that the reward needs."""
    desk = Desk(open_store(folder / ".burnish"))
    rows = {name: rows_of(name) for name in ("train", "dev", "test", "prompts")}
    dataset = _dataset(desk, rows)
    base = desk.version("base", (), {}, {})
    sft = desk.version("sft", (base, dataset), {}, {"updates": 32, "rows": 256})
    _log_sft(desk, sft)
    _first_gate(desk, base, sft, dataset, rows["dev"])
    desk.record("start", "start", {"version": sft.id}, (sft,))
    desk.pairs(sft, _neighbours(rows["train"], rows["train"], max(votes, 40)), "support-1")
    desk.person("ana", ["left", "right", "tie"] * (votes // 3) + ["left"] * (votes % 3))
    return desk


def rows_of(name: str) -> list[Row]:
    """The demonstration's rows of a split."""
    found = []
    for number, line in enumerate((SUPPORT / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(), 1):
        messages = json.loads(line)["messages"]
        answer = messages[1]["content"] if len(messages) > 1 else None
        found.append(Row((Message("user", messages[0]["content"]),), answer, number))
    return found


def _dataset(desk: Desk, rows: Mapping[str, Sequence[Row]]) -> Record:
    work = desk.work("dataset", "prepare")
    body = {"counts": {name: len(found) for name, found in rows.items()}, "dropped": []}

    def within(conn) -> None:
        for name, found in rows.items():
            desk.store.datasets.add(conn, work.id, name, found)

    desk.made["dataset"] = desk.store.once(work, lambda: body, within=within)
    return desk.made["dataset"]


def _neighbours(rows: Sequence[Row], answers: Sequence[Row], pairs: int) -> list[tuple[Row, str, str]]:
    """For each row two answers: its own (or the one at its place) and the next one's, which is about the same topic."""
    texts = [row.answer or "" for row in answers]
    return [(row, texts[at], texts[(at + 1) % len(texts)]) for at, row in enumerate(rows[:pairs])]


def _reward(desk: Desk, sft: Record, snapshot: Record, held_out: Sequence[str]) -> Record:
    draw = random.Random(3)
    log = RunLog(desk.store.work_folder(desk.work("reward", "reward", (sft, snapshot))))
    for step in range(48):
        known = 1 - math.exp(-step / 15)
        figures = {"pairwise": 0.7 - 0.24 * known + draw.gauss(0, 0.03), "pairwise/margin": 0.9 * known}
        log.log(
            step,
            **figures,
            gradient_norm=0.8 + draw.random(),
            learning_rate=5e-4 * (1 - step / 53),
            tokens_per_second=2900.0,
        )
    body = {
        "settings": {"epochs": {"value": 2, "why": "auto: comparisons are noisy"}},
        "accuracy": {"value": 0.71, "low": 0.6, "high": 0.81, "clusters": 57, "level": 0.95},
        "predictions": dict.fromkeys(held_out, 0.8),
    }
    desk.made["reward"] = desk.record("reward", "reward", body, (sft, snapshot))
    return desk.made["reward"]


def _log_sft(desk: Desk, sft: Record) -> None:
    draw = random.Random(1)
    log = RunLog(desk.store.path / "runs" / sft.key[:16])
    for step in range(32):
        loss = 1.9 + 1.3 * math.exp(-step / 6) + draw.gauss(0, 0.06)
        log.log(
            step,
            likelihood=loss,
            gradient_norm=1.4 + draw.random(),
            learning_rate=1e-3 * (1 - step / 36),
            tokens=610,
            tokens_per_second=1450 + draw.gauss(0, 60),
        )


def _log_rl(desk: Desk, rl: Record, sft: Record, prompts: Sequence[Row]) -> None:
    draw = random.Random(2)
    log = RunLog(desk.store.path / "runs" / rl.key[:16])
    answers = rows_of("train")
    for step in range(16):
        figures: dict[str, Json] = {}
        if step % 2 == 0:
            names = [f"rollout-{step}-{n}" for n in (0, 1)]
            desk.say(
                [(id, prompts[step + n], answers[step * 3 + n].answer or "") for n, id in enumerate(names)],
                sft,
                "rollout",
            )
            seen = [(f"dev-{step}-{n}", prompts[n], answers[step + n].answer or "") for n in (0, 1)]
            desk.say(seen, sft, "rollout")
            figures = {
                "reward": 0.3 + 0.055 * step + draw.gauss(0, 0.08), "length": 27 + 0.2 * step + draw.gauss(0, 1),
                "cut_share": 0.09 + draw.random() / 20, "diversity": 0.98 - draw.random() / 30, "idle_share": 0.0,
                "mismatch": 1.00003, "samples": names, "dev_samples": [f"dev-{step}-{n}" for n in (0, 1)],
                "held_out": 0.5 + 0.02 * step, "dev_kl": 0.004 * step, "dev_repetition": 0.05, "dev_distinct": 0.8,
                "dev_win_share": 0.5 + 0.03 * step, "dev_win_share_low": 0.4 + 0.02 * step,
                "dev_win_share_high": min(1.0, 0.6 + 0.03 * step), "dev_votes_simulated": 24.0,
            }  # fmt: skip
            for name, gain in (("dev_gain", 0.06 * step), ("dev_held_out_gain", 0.09 * step - 0.006 * step**2)):
                figures |= {name: gain, f"{name}_low": gain - 0.02 * step, f"{name}_high": gain + 0.02 * step}
        log.log(
            step, **figures, kl=0.004 * step + draw.gauss(0, 0.002), policy=draw.gauss(0, 0.02),
            gradient_norm=0.6 + draw.random() / 3, learning_rate=5e-4, tokens=980, tokens_per_second=890.0,
            **{"policy/clip_share": 0.02 + draw.random() / 40, "policy/ratio": 1 + draw.gauss(0, 0.004)},
            **{"entropy/entropy": 1.6 - 0.02 * step},
        )  # fmt: skip


def _first_gate(desk: Desk, base: Record, sft: Record, dataset: Record, rows: Sequence[Row]) -> None:
    answers = {
        name: [row.answer or "" for row in found] for name, found in (("base", rows[1:] + rows[:1]), ("sft", rows))
    }
    evaluation = _evaluation(
        desk, {"base": base, "sft": sft}, "sft", "base", dataset, "dev", rows, answers, {"base": 3.2, "sft": 2.1}
    )
    verdict = decide(RECIPE, desk.store, candidate=sft, evaluation=evaluation, stage="sft")
    assert verdict.body["passed"], verdict.body["rules"]
    registry.promote(desk.store, PROJECT, sft.id, by="burnish run")


def _last_gate(
    desk: Desk, base: Record, sft: Record, rl: Record, dataset: Record, rows: Mapping[str, list[Row]], share: float
) -> Record:
    """One of the two versions cuts each answer off; ``share`` of the time it is the start."""
    test = rows["test"][:64]
    draw = random.Random(5)
    whole = [row.answer or "" for row in test]
    pairs = [(text, _cut(text)) if draw.random() < share else (_cut(text), text) for text in whole]
    improved, start = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    dull = [
        "I am sorry to hear that. Please contact our customer service team for more help with your order 12345."
        for _ in test
    ]
    prompted = [test[(at + 5) % len(test)].answer or "" for at in range(len(test))]
    answers = {"base": dull, "prompt_only": prompted, "start": start, "production": start, "rl": improved}
    losses = {"base": 3.21, "prompt_only": 2.94, "start": 2.13, "production": 2.13, "rl": 2.19}
    contenders = {"base": base, "prompt_only": base, "start": sft, "production": sft, "rl": rl}
    evaluation = _evaluation(desk, contenders, "rl", "start", dataset, "test", test, answers, losses)
    campaign = judge_campaign(desk.store, PROJECT, evaluation, "rl", "production", 2)
    feedback.simulate_votes(desk.store, PROJECT, campaign, panel(0)[1])
    judgement = judged(desk.store, PROJECT, campaign, evaluation, 0)
    desk.made |= {"evaluation": evaluation, "judgement": judgement}
    desk.made["verdict"] = decide(
        RECIPE, desk.store, candidate=rl, evaluation=evaluation, judgement=judgement, stage="rl"
    )
    return desk.made["verdict"]


def _cut(text: str) -> str:
    """An answer that stops before its end."""
    return " ".join(text.split()[:-3])


def _evaluation(
    desk: Desk,
    contenders: Mapping[str, Record],
    candidate: str,
    start: str,
    dataset: Record,
    split: str,
    rows: Sequence[Row],
    answers: Mapping[str, Sequence[str]],
    losses: Mapping[str, float],
) -> Record:
    draw, clusters = random.Random(4), [row.number for row in rows]
    hard = [draw.gauss(0, 0.35) for _ in rows]
    items: dict[str, dict[str, list[float]]] = {}
    exchanges: dict[str, list[str]] = {}
    for name, texts in answers.items():
        twin = next((n for n in items if contenders[n] is contenders[name] and "prompt_only" not in (n, name)), None)
        if twin is not None:  # one version under two names is measured once
            items[name], exchanges[name] = items[twin], exchanges[twin]
            continue
        ids = [f"{split}-{name}-{row.number}" for row in rows]
        desk.say(list(zip(ids, rows, texts, strict=True)), contenders[name], "evaluation")
        exchanges[name] = ids
        said = desk.store.exchanges.many(ids)
        items[name] = {
            "loss": [losses[name] + h + draw.gauss(0, 0.05) for h in hard],
            **text_numbers([said[id] for id in ids]),
            "score.utility": [utility(row.prompt[0].content, text) for row, text in zip(rows, texts, strict=True)],
            "score.step": [parts(row.prompt[0].content, text)["step"] for row, text in zip(rows, texts, strict=True)],
        }
        if name not in (start, "prompt_only"):
            items[name]["kl"] = [0.06 + draw.gauss(0, 0.01) for _ in rows]
            items[name]["changed"] = [float(a != b) for a, b in zip(texts, answers[start], strict=True)]
    own = items[candidate]
    body = {
        "dataset": dataset.id,
        "split": split,
        "candidate": candidate,
        "start": start,
        "contenders": {name: record.id for name, record in contenders.items()},
        "names": {name: record.name for name, record in contenders.items()},
        "rows": clusters,
        "clusters": clusters,
        "items": items,
        "exchanges": exchanges,
        "figures": {
            n: {m: asdict(figure_of(v, clusters, seed=0)) for m, v in found.items()} for n, found in items.items()
        },
        "differences": {
            n: {
                m: asdict(difference_of(own[m], v, clusters, seed=0))
                for m, v in found.items()
                if m in own and m != "changed"
            }
            | {"length_ratio": asdict(figure_of(ratio_numbers(own["length"], found["length"]), clusters, seed=0))}
            for n, found in items.items()
            if n != candidate
        },
        "changed": {n: int(sum(found["changed"])) for n, found in items.items() if "changed" in found},
    }
    parents = {record.id: record for record in (dataset, *contenders.values())}
    return desk.record("evaluation", "evaluation", body, tuple(parents.values()))
