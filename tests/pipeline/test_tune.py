"""The search: it halves, it is told only dev rows, it goes on after an interruption, and it writes the winner."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from burnish.cli import main
from burnish.config import load
from burnish.errors import ConfigError, StoreError, TrainingError
from burnish.pipeline import Project
from burnish.pipeline import tune as tuning
from burnish.pipeline.ranges import DEFAULTS, Range, parse_budget, parse_ranges
from burnish.pipeline.tune import END, Late, Search, Trial, report, tune
from burnish.pipeline.tuned import require_place, write_tuned
from burnish.progress import Silent

RANGES = (Range("sft.learning_rate", 1e-4, 1e-1), Range("adapt.rank", choices=(2, 16)), Range("sft.epochs", 1, 2, True))
RECIPE = """# mine
task = "chat"
base = "{base}"

[data]
train = "train.jsonl"
dev = "dev.jsonl"
test = "test.jsonl"

[sft]
batch_size = 4  # small
epochs = 2
"""


@pytest.fixture
def project(tmp_path: Path, tiny_model_folder: Path) -> Project:
    for name, start, count in (("train", 0, 12), ("dev", 100, 4), ("test", 200, 4)):
        rows = [{"prompt": f"{name} {n} of what?", "completion": f"{n}!"} for n in range(start, start + count)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "bot.toml").write_text(RECIPE.format(base=tiny_model_folder))
    return Project(tmp_path / "bot.toml", progress=Silent())


class Clock:
    """A second a look: a budget is a number of updates."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(tuning, "time", made)
    return made


def test_it_finds_a_better_rate_than_the_recipes(project: Project, clock: Clock) -> None:
    found = tune(project, RANGES, seconds=150)
    first, best = found.trials[0], found.best
    assert best is not None and len(found.trials) >= 8
    assert first.values == {"sft.learning_rate": 1e-3, "adapt.rank": 16, "sft.epochs": 2}  # the recipe as it is
    assert best.losses[END] == min(t.losses[END] for t in found.trials if t.state == "complete")
    assert best.values["sft.learning_rate"] > 1e-3  # a random model of 64 dimensions learns faster than that
    assert {t.state for t in found.trials} >= {"complete", "pruned"}
    shares = found.mattered()
    assert set(shares) == {r.key for r in RANGES} and sum(shares.values()) == pytest.approx(1.0)
    said = "\n".join(report(found))
    assert "went to their end" in said and "sft.learning_rate = " in said and "; mattered " in said


def trial(number: int, rung: int, loss: float, state: str = "pruned") -> Trial:
    return Trial(number, {}, {rung: loss}, state, 1.0)


def test_one_third_goes_on() -> None:
    search = Search.__new__(Search)
    search.trials = []
    assert search.goes_on(1, 9.0)  # alone
    search.trials = [trial(0, 1, 2.0), trial(1, 1, 3.0)]
    assert search.goes_on(1, 1.9) and not search.goes_on(1, 2.1)  # one of three
    search.trials = [trial(n, 1, float(n)) for n in range(8)]  # 0 to 7
    assert search.goes_on(1, 1.5) and not search.goes_on(1, 2.5)  # three of nine
    assert search.goes_on(3, 99.0)  # nobody has reached that rung


def test_the_test_split_is_sealed(project: Project, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets, read = project.store.datasets, []
    dataset = project.prepare()
    original = datasets.rows

    def rows(of: str, split: str):
        read.append(split)
        return original(of, split)

    def peeks(search: Search, number: int, values, losses, until) -> bool:
        datasets.rows(dataset.id, "test")
        raise AssertionError

    monkeypatch.setattr(datasets, "rows", rows)
    tune(project, RANGES, seconds=30)
    assert set(read) == {"train", "dev"}
    monkeypatch.setattr(Search, "train", peeks)
    with pytest.raises(StoreError, match="the test split is sealed here"):
        tune(project, RANGES, seconds=300)
    assert len(datasets.rows(dataset.id, "test")) == 4  # open again for the last evaluation


def test_it_goes_on_after_an_interruption(project: Project, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    train = Search.train

    def interrupted(search: Search, number: int, *rest) -> bool:
        if number == 3:
            raise KeyboardInterrupt
        return train(search, number, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Search, "train", interrupted)
        with pytest.raises(KeyboardInterrupt):
            tune(project, RANGES, seconds=200)
    clock.now, tried = 0.0, list[int]()

    def counted(search: Search, number: int, *rest) -> bool:
        tried.append(number)
        return train(search, number, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(Search, "train", counted)
        found = tune(Project(project.path, progress=Silent()), RANGES, seconds=100)
    assert tried[0] == 3  # what had ended is not tried again
    again = [replace(t, seconds=0.0) for t in found.trials]
    other = Project(project.path, project.folder / "other", progress=Silent())
    whole = tune(other, RANGES, seconds=100)
    straight = [replace(t, seconds=0.0) for t in whole.trials]
    assert len(again) >= 6 and again[:6] == straight[:6]


def test_the_budget_holds_over_calls(project: Project, clock: Clock) -> None:
    found = tune(project, RANGES, seconds=60)
    spent = sum(t.seconds for t in found.trials)
    assert spent <= 60
    clock.now = 0.0
    again = tune(project, RANGES, seconds=spent)
    assert [t.number for t in again.trials] == [t.number for t in found.trials]  # nothing left
    with pytest.raises(Late):  # in the middle of a trial too
        found.train(99, found.trials[0].values, {}, until=0.0)


def test_a_budget_in_which_nothing_ends_says_so(project: Project, clock: Clock) -> None:
    with pytest.raises(TrainingError, match="no trial came to its end in this time"):
        tune(project, RANGES, seconds=4)


def test_a_trial_that_is_not_finite_is_out(project: Project, clock: Clock) -> None:
    found = tune(project, (Range("sft.learning_rate", 1e-3, 1e30),), seconds=100)
    assert any(t.state == "failed" and "not finite" in t.why for t in found.trials)
    assert found.best is not None and found.best.state == "complete"


def test_no_dev_rows(project: Project) -> None:
    text = project.path.read_text().replace('dev = "dev.jsonl"', "dev_share = 0.0")
    project.path.write_text(text)
    with pytest.raises(TrainingError, match="no dev rows to choose on"):
        tune(Project(project.path, progress=Silent()), RANGES, seconds=60)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate=1..2", "is no range"),
        ("rl.kl=0.01..0.1", 'tune does not search "rl.kl"'),
        ("sft.lerning_rate=1..2", 'tune does not search "sft.lerning_rate"'),
        ("sft.learning_rate=1e-2..1e-4", "the smaller one first"),
        ("sft.learning_rate=0..1", "numbers above 0"),
        ("adapt.rank=8", "leaves nothing to choose"),
        ("adapt.rank=8,lots", "does not fit"),
        ("adapt.rank=0.5..2.5", "does not fit"),
    ],
)
def test_ranges_that_cannot_be(project: Project, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_ranges(project.recipe, [text])
    assert said in str(error.value)


def test_ranges_replace_defaults_or_join_them(project: Project) -> None:
    found = {r.key: r for r in parse_ranges(project.recipe, ["adapt.rank=8..64", "sft.schedule=linear,cosine"])}
    assert found["adapt.rank"] == Range("adapt.rank", 8, 64, whole=True)
    assert found["sft.schedule"].choices == ("linear", "cosine")
    assert set(found) == {r.key for r in DEFAULTS} | {"sft.schedule"}


def test_whole_weights_have_no_rank_and_move_at_lower_rates(project: Project, clock: Clock) -> None:
    project.path.write_text(project.path.read_text() + '[adapt]\nmethod = "last"\nlayers = 1\n')
    other = Project(project.path, progress=Silent())
    ranges = {r.key: r for r in parse_ranges(other.recipe, [])}
    assert "adapt.rank" not in ranges
    assert (ranges["sft.learning_rate"].low, ranges["sft.learning_rate"].high) == pytest.approx((5e-6, 5e-4))
    found = tune(other, tuple(ranges.values()), seconds=40)
    assert found.trials[0].values["sft.learning_rate"] == 5e-5 and found.trials[0].state == "complete"


def test_a_base_with_an_adapter_keeps_its_rank(project: Project, clock: Clock) -> None:
    made = project.train("sft").records["sft"]
    text = project.path.read_text().replace(f'base = "{project.recipe.base}"', f'base = "{made.name}"')
    project.path.write_text(text)
    other = Project(project.path, progress=Silent())
    found = tune(other, DEFAULTS, seconds=40)
    assert "adapt.rank" not in found.trials[0].values
    first, again = found.trials[0], dict[int, float]()
    found.train(0, first.values, again, until=float("inf"))  # others have trained since
    assert again and again.items() <= dict(first.losses).items()  # each trial starts from the same adapter
    with pytest.raises(ConfigError, match="the base brings its own adapter"):
        tune(other, (Range("adapt.rank", choices=(2, 4)),), seconds=40)


def test_budgets() -> None:
    assert [parse_budget(t) for t in ("2h", "90m", "1h30m", "45s")] == [7200, 5400, 5400, 45]
    for wrong in ("2", "h", "two hours", "0s", "2h later"):
        with pytest.raises(ConfigError, match="is no budget of time"):
            parse_budget(wrong)


def test_the_winner_keeps_comments_and_all_other_keys(project: Project) -> None:
    target = project.folder / "bot.tuned.toml"
    values = {"sft.learning_rate": 3e-3, "sft.batch_size": 8, "adapt.rank": 4}
    write_tuned(project.path, target, values, "trial 3 of 9")
    text = target.read_text()
    assert text.startswith("# Found by `burnish tune`: trial 3 of 9\n")
    assert "# mine" in text and "batch_size = 8  # tuned, was 4\n" in text and "rank = 4  # tuned" in text
    assert tomllib.loads(text)["name"] == "bot"
    before, after = load(project.path), load(target)
    assert after.sft == before.sft.model_copy(update={"learning_rate": 3e-3, "batch_size": 8})
    assert after.adapt.rank == 4 and (after.data, after.name, after.gate) == (before.data, "bot", before.gate)
    write_tuned(project.path, target, {"adapt.rank": 8}, "again")  # its own file it may replace
    assert load(target).adapt.rank == 8


def test_a_file_of_another_hand_is_not_replaced(project: Project, tmp_path: Path) -> None:
    (project.folder / "bot.tuned.toml").write_text("mine")
    with pytest.raises(ConfigError, match="another file of that name"):
        require_place(project.path, project.folder / "bot.tuned.toml")
    with pytest.raises(ConfigError, match="stands beside its original"):
        require_place(project.path, project.folder / "elsewhere" / "bot.toml")


def test_an_inline_table_is_left_to_the_hand(project: Project) -> None:
    text = project.path.read_text().replace("[sft]\nbatch_size = 4  # small\nepochs = 2\n", "")
    project.path.write_text(text.replace("# mine", "# mine\nsft = { batch_size = 4 }"))
    with pytest.raises(ConfigError):
        write_tuned(project.path, project.folder / "bot.tuned.toml", {"sft.epochs": 3}, "")
    assert not list(project.folder.glob("*.part")) and not (project.folder / "bot.tuned.toml").exists()


def test_the_command(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["tune", str(project.path), "--budget", "3s", "--range", "sft.learning_rate=1e-3..1e-1"])
    said = capsys.readouterr()
    assert leaving.value.code == 0, said.err
    assert "trials in 0." in said.out and "bot.tuned.toml" in said.out
    load(project.folder / "bot.tuned.toml")
    with pytest.raises(SystemExit) as leaving:
        main(["tune", str(project.path), "--range", "rl.kl=1..2"])
    assert leaving.value.code == 2 and 'tune does not search "rl.kl"' in capsys.readouterr().err
