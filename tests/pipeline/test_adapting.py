"""What [adapt] says holds in every stage: supervised, reward and reinforcement learning on the tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from burnish.errors import ConfigError, ModelError
from burnish.models.artifacts import load_version
from burnish.models.freezing import Full
from burnish.models.peft_layout import CONFIG
from burnish.models.weights import FILE
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.training.adapting import adaptation
from burnish.training.loop import Loop

SHORTER = {"pairs = 60": "pairs = 20", "min_comparisons = 40": "min_comparisons = 20", "epochs = 2": "epochs = 1"}


def written(recipe: Path, adapt: str, *more: tuple[str, str]) -> Path:
    text = recipe.read_text()
    for old, new in [*SHORTER.items(), *more]:
        assert old in text
        text = text.replace(old, new)
    recipe.write_text(f"{text}\n[adapt]\n{adapt}\n")
    return recipe


def moved(project: Project, one, other) -> set[str]:
    """The names of the tensors, of base and adapter, in which two versions differ."""
    first, second = (dict(load_version(project.store, r).model.module.named_parameters()) for r in (one, other))
    shared = {name for name in first.keys() & second.keys() if torch.equal(first[name], second[name])}
    return (first.keys() | second.keys()) - shared


@pytest.mark.parametrize(
    ("adapt", "rate"),
    [
        ('method = "dora"\nrank = 4\nunfreeze = 0.5\nlayer_decay = 0.5\nfreeze = ["layers.0.mlp"]', 1e-3),
        ('method = "full"\ntargets = ["mlp", "q_proj"]', 5e-5),
        ('method = "last"\nlayers = 1', 5e-5),
    ],
)
def test_every_stage_changes_what_may_change_and_nothing_else(tiny_project, adapt, rate):
    recipe = written(tiny_project, adapt, ("learning_rate = 5e-3\n", ""))
    project = Project(recipe, progress=Silent())
    made = project.train().records
    base, sft, rl = made["base"], made["sft"], made["candidate"]
    assert (sft.body["stage"], rl.body["stage"]) == ("sft", "rl")
    assert sft.body["settings"]["learning_rate"]["value"] == rate
    for before, after in ((base, sft), (sft, rl)):
        names = moved(project, before, after)
        assert names or after.body["figures"]["updates"] == 0
        if "dora" in adapt:
            assert all(".lora_" in name for name in names)
            assert not any("layers.0.mlp" in name for name in names)
        elif "full" in adapt:
            assert all(".mlp." in name or "q_proj" in name for name in names)
        else:
            assert all(".layers.1." in name or name == "model.norm.weight" for name in names)
    reward = project.store.blobs.tree(made["reward"].body["reward"])
    assert (FILE in reward) is ("dora" not in adapt)
    if "dora" in adapt:
        assert '"use_dora": true' in reward[CONFIG].read_text()
        assert {name.partition(".lora_")[0].split(".")[2] for name in moved(project, base, sft)} == {"0", "1"}
        assert sft.body["settings"]["rank"] == {"value": 4, "why": "recipe"}
        assert rl.body["settings"]["alpha"] == {"value": 8.0, "why": "auto: the adapter that is continued has it"}


def test_rates_and_thawing_reach_the_loop_of_every_stage(tiny_project, monkeypatch):
    seen: dict[str, tuple[list[float], list[int]]] = {}
    plain = Loop.update

    def update(loop, step, trees):
        layers = {name.split(".")[2] for name in loop.trainable(step) if ".layers." in name}
        rates, counts = seen.setdefault(loop.what, ([], []))
        rates[:] = sorted({loop.rates[name] for name in loop.parameters})
        counts.append(len(layers))
        return plain(loop, step, trees)

    monkeypatch.setattr(Loop, "update", update)
    recipe = written(tiny_project, "unfreeze = 0.9\nlayer_decay = 0.25", ("layers = 1", "layers = 2"))
    Project(recipe, progress=Silent()).train()
    assert set(seen) == {"sft update", "reward update", "rl update"}
    for rates, counts in seen.values():
        assert rates == [0.25, 1.0]
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) in ((1, 2), (2, 2))  # a run of one update trains everything
    assert seen["sft update"][1] == [1] * 10 + [2] * 2


def test_an_adapter_goes_on_with_its_own_rank_and_not_with_another(tiny_project):
    first = Project(written(tiny_project, "rank = 3"), progress=Silent())
    sft = first.train("sft").records["sft"]
    tiny_project.write_text(tiny_project.read_text().replace("rank = 3", "").replace(first.recipe.base, sft.name))
    second = Project(tiny_project, progress=Silent()).train("sft").records["sft"]
    assert second.body["settings"]["rank"]["value"] == 3
    tiny_project.write_text(tiny_project.read_text() + "rank = 8\n")
    with pytest.raises(ModelError, match=r"adapt.rank is 8, and the adapter that is continued has rank 3"):
        Project(tiny_project, progress=Silent()).train("sft")


@pytest.mark.parametrize(
    ("adapt", "says"),
    [
        ('method = "full"\nrank = 8', "rank belongs to an adapter"),
        ('method = "last"\nlayers = 2\nalpha = 8', "alpha belongs to an adapter"),
        ('method = "full"\nlayers = 2', 'write method = "last" with layers'),
        ('method = "last"', "needs a number of layers"),
        ("unfreeze = 0", "unfreeze"),
        ("unfreeze = 1", "unfreeze"),
        ("layer_decay = 1.5", "layer_decay"),
        ('freeze = [""]', "freeze"),
        ('targets = "q_proj"', "targets"),
    ],
)
def test_keys_that_would_be_ignored_or_make_no_sense_are_refused(tiny_project, adapt, says):
    with pytest.raises(ConfigError, match=says):
        Project(written(tiny_project, adapt))


def test_a_recipe_says_what_changes(tiny_project):
    recipe = Project(written(tiny_project, 'method = "rslora"\nrank = 64\nfreeze = 1')).recipe
    how, choices = adaptation(recipe)
    assert (how.method, how.scale, how.freeze) == ("rslora", 1.0, 1)  # 8 / sqrt(64)
    assert choices["alpha"].why == "auto: alpha is the same at any rank"
    last = recipe.model_copy(update={"adapt": recipe.adapt.model_copy(update={"method": "last", "layers": 2})})
    assert adaptation(last) == (Full(layers=2, freeze=1), {})
