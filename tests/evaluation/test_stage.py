"""The evaluation stage on the tiny random model: real answers, real logprobs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from burnish.config import Gate, Recipe
from burnish.data.render import Renderer
from burnish.errors import ConfigError, EvaluationError, PartError
from burnish.evaluation import answers, evaluate, stage
from burnish.evaluation.gates import decide
from burnish.models.adapters import Lora
from burnish.models.artifacts import base_version, load_version, save_version
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.objectives import pack
from burnish.parts import Part
from burnish.records import Message, Record, Row
from burnish.store import Store, Work, open_store
from burnish.tasks.chat import ChatTask

PROJECT = "tiny"
NAMES = ("mine:longer",)


def row(number: int, subject: str | None = None, answer: str | None = "On its way.", said: str = "") -> Row:
    return Row((Message("user", said or f"Where is parcel {number}?"),), answer, number, subject=subject)


class World:
    """A store with a dataset, the tiny base (tiny@0) and two tuned versions of it."""

    def __init__(self, folder: Path, model: Path) -> None:
        torch.set_num_threads(1)
        self.store: Store = open_store(folder / ".burnish")
        self.cache = folder / "cache"
        self.base_model = resolve_base(str(model), self.cache)
        self.renderer = Renderer.from_folder(self.base_model.folder, "You help.")
        self.recipe = Recipe.model_validate(
            {
                "name": PROJECT,
                "task": "chat",
                "base": str(model),
                "data": {"train": "rows.jsonl"},
                "evaluate": {"items": 8, "max_new_tokens": 6},
            }
        )
        self.dataset = self.data([row(number, f"subject-{number // 2}") for number in range(1, 13)])
        self.base = base_version(self.store, PROJECT, self.base_model, self.renderer)
        self.sft, self.rl = self.tuned("sft", 0.05), self.tuned("rl", 0.1)

    def data(self, test: list[Row]) -> Record:
        work = Work("dataset", "prepare", 1, {"rows": [r.number for r in test], "of": test[0].answer}, (), 0, PROJECT)

        def within(conn) -> None:
            self.store.datasets.add(conn, work.id, "test", test)
            train = [row(100 + n, f"trained-{n}", f"Answer {n}.", f"secret question {n}") for n in range(5)]
            self.store.datasets.add(conn, work.id, "train", train)

        return self.store.once(work, lambda: {"counts": {"test": len(test)}}, within=within)

    def tuned(self, name: str, spread: float) -> Record:
        def make():
            model = LanguageModel.load(self.base_model, lora=Lora(4), trainable=True)
            generator = torch.Generator().manual_seed(1)
            for parameter in model.parameters().values():
                parameter.data.normal_(std=spread, generator=generator)
            return save_version(self.store, model, self.renderer, stage=name, settings={})

        return self.store.once(Work("version", name, 1, {"spread": spread}, (self.base,), 0, PROJECT), make)

    def evaluate(self, dataset: Record | None = None, contenders=None, candidate="rl", start="start", **more) -> Record:
        return evaluate(
            more.pop("recipe", self.recipe),
            self.store,
            dataset=dataset or self.dataset,
            split="test",
            contenders=contenders or {"base": self.base, "start": self.sft, "rl": self.rl},
            candidate=candidate,
            start=start,
            cache=self.cache,
            **more,
        )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> World:
    return World(tmp_path_factory.mktemp("world"), tiny_model_folder)


@pytest.fixture
def fresh(tmp_path: Path, tiny_model_folder: Path) -> World:
    return World(tmp_path, tiny_model_folder)


@pytest.fixture(scope="module")
def measured(world: World) -> Record:
    def score(question: str, answer: str, finished: bool) -> dict[str, float]:
        return {"utility": len(answer) + float(finished), "finished": float(finished)}

    contenders = {
        "base": world.base,
        "prompt_only": world.base,
        "start": world.sft,
        "production": world.sft,
        "rl": world.rl,
    }
    return world.evaluate(contenders=contenders, score=score)


def test_each_contender_answers_each_prompt(world: World, measured: Record):
    body = measured.body
    assert len(body["rows"]) == 8 and body["rows"] == sorted(body["rows"])
    for name in ("base", "prompt_only", "start", "production", "rl"):
        assert all(len(values) == 8 for values in body["items"][name].values())
        said = world.store.exchanges.many(body["exchanges"][name])
        assert [said[id].version for id in body["exchanges"][name]] == [body["contenders"][name]] * 8
    assert set(measured.parents) == {world.dataset.id, world.base.id, world.sft.id, world.rl.id}
    assert body["temperature"] == 1.0 and body["names"]["rl"] == world.rl.name


def test_one_version_under_two_names_is_measured_once(measured: Record):
    said = measured.body["exchanges"]
    assert said["start"] == said["production"]
    assert said["base"] != said["prompt_only"]
    assert measured.body["items"]["start"] == measured.body["items"]["production"]


def test_items_of_one_subject_are_one_cluster(world: World, measured: Record):
    assert all(a in (b, b - 1) for a, b in zip(measured.body["clusters"], measured.body["rows"], strict=True))
    assert len(set(measured.body["clusters"])) < 8
    assert measured.body["figures"]["rl"]["length"]["clusters"] == len(set(measured.body["clusters"]))
    assert "subject" not in str(measured.body) and "parcel" not in str(measured.body)


def test_the_loss_is_that_of_the_slow_twin(world: World, measured: Record):
    loaded = load_version(world.store, world.rl, world.cache)
    task = ChatTask(loaded.renderer, 6)
    rows = {r.number: r for r in world.store.datasets.rows(world.dataset.id, "test")}
    for number, loss in zip(measured.body["rows"], measured.body["items"]["rl"]["loss"], strict=True):
        (stream,) = pack([task.supervised(rows[number])], 1000, keep_last=False)
        with torch.no_grad():
            slow = loaded.model.logp_slow(stream).logp_S
        assert loss == pytest.approx(-float(slow.mean()), abs=1e-4)


def test_kl_is_zero_for_the_samplers_own_model_and_not_for_another(world: World, measured: Record):
    items = measured.body["items"]
    assert [name for name, numbers in items.items() if "kl" in numbers] == ["rl"]  # the candidate
    assert abs(sum(items["rl"]["kl"])) > 1e-2
    loaded = load_version(world.store, world.rl, world.cache)
    said = world.store.exchanges.many(measured.body["exchanges"]["rl"]).values()
    rows = {r.number: r for r in world.store.datasets.rows(world.dataset.id, "test")}
    asked = [rows[number] for number in measured.body["rows"]]
    losses, kls = stage._read(loaded, ChatTask(loaded.renderer, 6), asked, [], list(said))
    assert max(map(abs, kls)) < 1e-4 and losses == pytest.approx(items["rl"]["loss"], abs=1e-4)
    by_hand = [
        sum(x.logprobs) / len(x.logprobs) - kl for x, kl in zip(said, items["rl"]["kl"], strict=True)
    ]  # the start's mean logprob of the same ids
    start = load_version(world.store, world.sft, world.cache)
    for exchange, logp in zip(said, by_hand, strict=True):
        tree = ChatTask(start.renderer, 6).pair(exchange.prompt_ids, exchange.answer_ids, exchange.answer_ids, 0.5)
        assert logp == pytest.approx(sum(answers.logps(start.model, [tree])[0]) / len(exchange.answer_ids), abs=1e-4)


def test_differences_are_candidate_minus_other(measured: Record):
    body = measured.body
    assert set(body["differences"]) == {"base", "prompt_only", "start", "production"}
    own, other = body["items"]["rl"]["loss"], body["items"]["start"]["loss"]
    wanted = sum(a - b for a, b in zip(own, other, strict=True)) / 8
    assert body["differences"]["start"]["loss"]["value"] == pytest.approx(wanted)
    lengths = [sum(body["items"][name]["length"]) for name in ("rl", "start")]
    assert body["differences"]["start"]["length_ratio"]["value"] == pytest.approx(lengths[0] / lengths[1])
    assert body["figures"]["rl"]["score.utility"]["value"] == pytest.approx(
        sum(body["items"]["rl"]["score.utility"]) / 8
    )
    assert body["changed"]["rl"] == sum(body["items"]["rl"]["changed"]) > 0


def test_finished_work_is_not_repeated_and_other_evaluations_share_its_answers(
    world: World, measured: Record, monkeypatch
):
    def no_sampling(*_, **__):
        raise AssertionError("it samples again")

    monkeypatch.setattr(answers, "_answer", no_sampling)
    again = world.evaluate(contenders={"base": world.base, "rl": world.rl}, start="base")
    assert again.id != measured.id
    assert again.body["exchanges"]["rl"] == measured.body["exchanges"]["rl"]
    assert world.evaluate(contenders={"base": world.base, "rl": world.rl}, start="base").id == again.id


def test_what_a_crash_left_is_sampled_to_the_same_answers(fresh: World, measured: Record, monkeypatch):
    wanted = fresh.evaluate(contenders={"base": fresh.base, "rl": fresh.rl}, start="base").body
    said = fresh.store.exchanges.many(wanted["exchanges"]["rl"])
    loaded = load_version(fresh.store, fresh.rl, fresh.cache)
    rows = {r.number: r for r in fresh.store.datasets.rows(fresh.dataset.id, "test")}
    chosen = [rows[number] for number in wanted["rows"]]
    task = ChatTask(loaded.renderer, 6)
    params = answers.Params(1.0, 1.0, 6, said[wanted["exchanges"]["rl"][0]].settings["seed"], loaded.renderer.stop_ids)
    more = (fresh.store, PROJECT, fresh.rl, loaded)
    part = answers.answer_rows(*more, chosen[3:5], task, params, "evaluation", "again")
    whole = answers.answer_rows(*more, chosen, task, params, "evaluation", "again")
    assert [x.answer for x in whole] == [x.answer for x in said.values()]
    assert [x.id for x in part] == [x.id for x in whole[3:5]]


def test_a_candidate_that_answers_like_its_start_is_an_error(world: World):
    twin = world.tuned("twin", 0.0)
    with pytest.raises(EvaluationError, match="exactly like its start on all 8 prompts"):
        world.evaluate(contenders={"start": world.base, "rl": twin})


def test_examples_are_not_kept_with_other_peoples_prompts(world: World, measured: Record):
    body = measured.body
    assert len(body["examples"]) == 3
    said = world.store.exchanges.many(body["exchanges"]["prompt_only"])
    plain = world.store.exchanges.many(body["exchanges"]["base"])
    assert [x.prompt_ids for x in said.values()] == [x.prompt_ids for x in plain.values()]
    assert all(x.settings["examples"] == body["examples"] for x in said.values())
    assert body["items"]["prompt_only"]["loss"] != body["items"]["base"]["loss"]


def test_examples_that_do_not_fit_the_context_are_left_out(world: World, monkeypatch):
    task = ChatTask(world.renderer, 6)
    shown = [row(100 + n, f"trained-{n}", f"Answer {n}.", f"secret question {n}") for n in range(2)]
    one, two = (task.supervised(row(12), shown[:n]).tokens() for n in (1, 2))
    monkeypatch.setattr(LanguageModel, "context", (one + two) // 2)
    contenders = {"base": world.base, "prompt_only": world.base, "sft": world.sft}
    recipe = world.recipe.model_copy(update={"seed": 6})
    body = world.evaluate(contenders=contenders, candidate="sft", start="base", recipe=recipe).body
    assert len(body["examples"]) == 1


def test_a_shared_beginning_changes_no_logprob(world: World):
    task = ChatTask(world.renderer, 6)
    rows = [row(n, None, "Yes. " * n, f"as every other question begins: {n}") for n in range(1, 90)]
    trees = [task.supervised(r) for r in rows]
    loaded = load_version(world.store, world.sft, world.cache)
    packed = pack(trees, answers.BUDGET, keep_last=False)
    assert 1 < len(packed) < 60 and all(stream.head > 0 or stream.trees == 1 for stream in packed)
    together = answers.logps(loaded.model, trees)
    for tree, said in zip(trees, together, strict=True):
        assert said == pytest.approx(answers.logps(loaded.model, [tree])[0], abs=1e-4)


def test_rows_without_a_written_answer_have_no_loss(world: World):
    mixed = world.data([row(n, None, None if n % 2 else "Here.") for n in range(30, 38)])
    body = world.evaluate(mixed).body
    assert [loss is None for loss in body["items"]["rl"]["loss"]] == [bool(n % 2) for n in body["rows"]]
    assert body["figures"]["rl"]["loss"]["clusters"] == 4


def test_a_model_whose_loss_is_not_a_number_is_measured_and_refused(world: World, monkeypatch):
    def broken(model, trees):
        return [[math.nan] * len(answer.ids) for tree in trees for answer in tree.answers]

    monkeypatch.setattr(answers, "logps", broken)
    recipe = world.recipe.model_copy(update={"seed": 5})
    evaluation = world.evaluate(
        contenders={"base": world.base, "sft": world.sft}, candidate="sft", start="base", recipe=recipe
    )
    verdict = decide(recipe, world.store, candidate=world.sft, evaluation=evaluation, stage="sft")
    assert not verdict.body["passed"] and "not a number" in verdict.body["rules"][0]["why"]


def test_names_and_rows_must_be_there(world: World):
    with pytest.raises(EvaluationError, match='"rl" is not among the contenders'):
        world.evaluate(contenders={"start": world.sft})
    empty = Work("dataset", "prepare", 1, {"empty": True}, (), 0, PROJECT)
    with pytest.raises(EvaluationError, match="no rows"):
        world.evaluate(world.store.once(empty, lambda: {"counts": {}}))


def test_an_own_metric_is_reported_with_an_interval_and_decides_a_rule(fresh: World):
    seen = []

    def longer(reply):
        seen.append(reply)
        return len(reply.answer) / (1 + len(reply.written))

    metric = Part("mine:longer", longer, "mine.py 1", ())
    recipe = fresh.recipe.model_copy(update={"evaluate": fresh.recipe.evaluate.model_copy(update={"metrics": NAMES})})
    body = (evaluation := fresh.evaluate(metrics=[metric], recipe=recipe)).body
    said = fresh.store.exchanges.many(body["exchanges"]["rl"])
    wanted = [len(said[id].answer) / (1 + len("On its way.")) for id in body["exchanges"]["rl"]]
    assert body["items"]["rl"]["mine:longer"] == pytest.approx(wanted)
    assert body["figures"]["rl"]["mine:longer"]["low"] is not None
    assert "mine:longer" in body["differences"]["start"]
    assert {len(reply.prompt) for reply in seen} == {1} and {reply.tokens for reply in seen} > {6}
    rule = Gate.model_validate({"metric": "mine:longer", "against": "start", "better_by": 0.0})
    verdict = decide(recipe, fresh.store, candidate=fresh.rl, evaluation=evaluation, rules=[rule], stage="sft")
    assert "mine:longer against" in (why := verdict.body["rules"][0]["why"]) and "higher is better" in why
    with pytest.raises(ConfigError, match='unknown metric "mine:longer"'):
        decide(fresh.recipe, fresh.store, candidate=fresh.rl, evaluation=evaluation, rules=[rule], stage="sft")
    changed = replace(metric, source="mine.py 2")
    assert fresh.evaluate(metrics=[changed], recipe=recipe).id != evaluation.id
    with pytest.raises(PartError, match="returned None on row 1,"):
        fresh.evaluate(metrics=[replace(metric, source="mine.py 3", function=lambda reply: None)], recipe=recipe)


def test_a_score_gives_the_same_names_each_time(world: World):
    def moody(question: str, answer: str, finished: bool) -> dict[str, float]:
        return {"utility": 1.0} | ({"odd": 1.0} if question.endswith("1?") else {})

    with pytest.raises(EvaluationError, match="missing for some answers"):
        world.evaluate(score=moody)


def test_the_same_prompt_twice_is_one_cluster():
    rows = [row(1), row(2, said="Where is parcel 1?"), row(3)]
    keys = [stage.cluster(r) for r in rows]
    assert keys[0] == keys[1] != keys[2]
    assert stage.cluster(replace(rows[0], subject="anna")) == stage.cluster(replace(rows[2], subject="anna"))
