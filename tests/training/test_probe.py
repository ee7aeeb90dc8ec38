"""The learning-rate probe: what it costs, what it picks, and that a resumed run keeps what it found."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from burnish.config import Adapt, load
from burnish.errors import TrainingError
from burnish.models.adapters import Lora
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.objectives.stream import Answer, Tree
from burnish.objectives.terms import likelihood_term
from burnish.progress import Silent
from burnish.training import probe, settings, supervised
from burnish.training.loop import Loop, Settings
from burnish.training.passes import Epochs, Learner
from burnish.training.probe import best_rate, settled
from burnish.training.settings import Choice, Probe, keyed, probe_for

OPEN = Choice(1e-3, "auto: low-rank adapters on a small model")


def test_a_probe_costs_a_twentieth_of_the_run() -> None:
    found, why = probe_for(OPEN, updates=1000, batch=8, unseen=100)
    # 32 rows of a forward: 32 / 24 = 1.33 updates, five times; 50 / 4 - 1.33 * 1.25 = 10.8
    assert found == Probe((1e-4, 3e-4, 1e-3, 3e-3), 10, 32)
    assert (4 * 10 + 5 * 32 / 24) <= 0.05 * 1000
    assert why == "a probe of 10 updates at each of 0.0001, 0.0003, 0.001, 0.003 decides, at most 5 % of the run"


def test_short_runs_and_given_rates_have_none_and_say_why() -> None:
    assert probe_for(OPEN, 33, 8, 100) == (None, "no probe: it pays from 614 updates on, this run has 33")
    assert probe_for(OPEN, 613, 8, 100)[0] is None and probe_for(OPEN, 614, 8, 100)[0] is not None
    assert probe_for(OPEN, 10_000, 8, 0) == (None, "no probe: no row is left to judge the rates on")
    assert probe_for(Choice(1e-3, "recipe"), 10_000, 8, 100) == (None, "no probe: the recipe gives the rate")
    many = probe_for(OPEN, 100_000, 8, 100)[0]
    assert many is not None and many.updates == 24


def test_an_open_rate_enters_the_key_as_the_probe_that_will_find_it() -> None:
    batch = Choice(8, "recipe")
    assert keyed({"learning_rate": OPEN, "batch_size": batch}) == {
        "learning_rate": "auto from 0.001, probe 1",
        "batch_size": 8,
    }
    assert keyed({"learning_rate": Choice(2e-3, "recipe")}) == {"learning_rate": 2e-3}


def test_of_rates_that_are_nearly_as_good_the_smallest_is_taken() -> None:
    assert best_rate(3.0, [(1e-4, 2.9), (3e-4, 2.04), (1e-3, 2.0), (3e-3, 2.5)]) == 3e-4  # 0.96 of a gain of 1.0
    assert best_rate(3.0, [(1e-4, 2.9), (3e-4, 2.06), (1e-3, 2.0), (3e-3, None)]) == 1e-3
    assert best_rate(3.0, [(1e-3, 3.1), (1e-4, 3.01)]) == 1e-4  # none gains
    assert best_rate(3.0, [(1e-4, 2.9), (1e-3, math.nan)]) == 1e-4
    with pytest.raises(TrainingError, match="not finite at any"):
        best_rate(3.0, [(1e-4, None), (1e-3, math.nan)])


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    torch.set_num_threads(1)
    base = LanguageModel.load(resolve_base(str(tiny_model_folder), tmp_path_factory.mktemp("cache")))
    return base.sibling(lora=Lora(4), trainable=True, seed=3)


def tree(n: int) -> Tree:
    return Tree([5, 9, n], (Answer([7, 8, 9, 2], [1.0] * 4, row=n),))


def learner(model: LanguageModel) -> Learner:
    return Learner("sft", Adapt(), model.parameters(), model.logp, [likelihood_term()])


def search(model: LanguageModel, folder: Path, rates: tuple[float, ...] = (1e-4, 1e-2, 1e30)) -> Choice:
    def loop_at(rate: float, probe: Probe) -> Loop:
        windows = Epochs([tree(n) for n in range(10, 26)], 4, seed=5)
        run = Settings(probe.updates, rate, "constant", 1)
        return Loop(model.parameters(), model.logp, windows, [likelihood_term()], run, folder / "probe", Silent())

    def loss() -> float:
        return learner(model).measured([tree(n) for n in range(30, 34)])["loss"]

    return settled(Probe(rates, 6, 4), loop_at, loss, folder, Silent())


def test_it_finds_a_rate_and_leaves_the_parameters_alone(model: LanguageModel, tmp_path: Path) -> None:
    before = {name: p.detach().clone() for name, p in model.parameters().items()}
    found = search(model, tmp_path / "a")
    assert found.value == 1e-2 and found.auto
    assert "loss on 4 unseen rows after 6 updates" in found.why and "not finite at 1e+30" in found.why
    for name, parameter in model.parameters().items():
        assert torch.equal(parameter, before[name]) and parameter.grad is None
    assert search(model, tmp_path / "b") == found


def test_a_resumed_run_keeps_what_was_found(model: LanguageModel, tmp_path: Path) -> None:
    found = search(model, tmp_path)
    assert search(model, tmp_path, rates=(1e-4,)) == found


def test_the_loss_on_unseen_rows_is_the_mean_over_tokens(model: LanguageModel, tmp_path: Path) -> None:
    trees = [tree(30), Tree([5, 4], (Answer([7, 2], [1.0, 0.0]),))]
    windows = Epochs(trees, 2, seed=0)
    loop = Loop(model.parameters(), model.logp, windows, [likelihood_term()], Settings(1, 1e-3), tmp_path, Silent())
    whole = loop.update(0, trees)["likelihood"]  # the loss before its step
    again = Loop(model.parameters(), model.logp, windows, [likelihood_term()], Settings(1, 1e-3), tmp_path, Silent())
    moved = learner(model).measured(trees)["loss"]
    assert moved < whole
    assert moved == pytest.approx(again.update(0, trees)["likelihood"], rel=1e-6)


class Killed(Exception):
    pass


def test_the_stage_probes_once_and_its_record_says_what_was_found(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from burnish.pipeline import Project

    rows = [{"prompt": f"what is {n} {chr(97 + n % 26)}", "completion": f"It is {n}."} for n in range(24)]
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "train.jsonl").write_text("".join(lines[:20]))
    (tmp_path / "dev.jsonl").write_text("".join(lines[20:]))
    (tmp_path / "bot.toml").write_text(
        f'task = "chat"\nbase = "{tiny_model_folder}"\n[data]\ntrain = "train.jsonl"\ndev = "dev.jsonl"\n'
        "test_share = 0.0\n[sft]\nbatch_size = 4\nepochs = 6\n"
    )
    monkeypatch.setattr(settings, "PROBE_SHARE", 0.9)
    project = Project(tmp_path / "bot.toml", progress=Silent())
    store, dataset, base = project.store, project.prepare(), project.base()

    def train():
        recipe = load(tmp_path / "bot.toml")
        return supervised.train_supervised(recipe, base, dataset, store, project.cache, Silent())

    def killed(loop):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Loop, "run", killed)
        with pytest.raises(Killed):
            train()
    kept = json.loads(next((store.path / "runs").rglob("probe.json")).read_text())
    monkeypatch.setattr(probe, "best_rate", lambda start, after: 7.0)
    chosen = train().body["settings"]["learning_rate"]
    assert chosen == {"value": kept["rate"], "why": kept["why"]}
    assert "unseen rows after" in chosen["why"]
    rates = {line["learning_rate"] for line in store.metrics(store.records("bot", "version")[-1])}
    assert max(rates) == pytest.approx(kept["rate"])
