"""A teacher in the supervised stage: what is learned from it, what is kept of it, and which ones are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from burnish.errors import ConfigError, ModelError
from burnish.models.language import LanguageModel
from burnish.pipeline import Project
from burnish.progress import Silent
from burnish.records import Record
from burnish.training.supervised import train_supervised

RECIPE = """
name = "tiny"
task = "chat"
base = "{base}"

[data]
train = "rows.jsonl"
dev_share = 0.0
test_share = 0.0

[sft]
learning_rate = 5e-3
epochs = 4
batch_size = 6
"""
THINGS = "kettle lamp parcel toaster invoice refund pan code wok clock desk chair".split()


def make(folder: Path, base: Path, more: str = "") -> Project:
    rows = [{"prompt": f"Where is the {a}?", "completion": f"The {a} is {n}."} for n, a in enumerate(THINGS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tiny.toml").write_text(RECIPE.format(base=base) + more)
    return Project(folder / "tiny.toml", progress=Silent())


def run(project: Project) -> Record:
    dataset, base = project.prepare(), project.base()
    return train_supervised(project.recipe, base, dataset, project.store, project.cache, Silent(), project.teacher())


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path) -> Project:
    """A project whose tiny@1 has learned the rows."""
    torch.set_num_threads(1)
    project = make(tmp_path_factory.mktemp("teacher"), tiny_model_folder)
    assert run(project).name == "tiny@1"
    return project


def student(teacher: Project, base: Path, more: str) -> Project:
    return make(teacher.folder, base, f'teacher = "tiny@1"\n{more}')


@pytest.mark.parametrize("top_k", ["32", '"full"'])
def test_the_student_comes_nearer_to_its_teacher(teacher: Project, tiny_model_folder: Path, top_k: str) -> None:
    project = student(
        teacher, tiny_model_folder, f"teacher_weight = 1.0\nteacher_top_k = {top_k}\nteacher_temperature = 2.0"
    )
    record = run(project)
    lines = [line for line in project.store.metrics(record) if "distillation" in line]
    assert lines[-1]["distillation"] < 0.5 * lines[0]["distillation"]
    assert lines[-1]["loss"] == pytest.approx(lines[-1]["distillation"])  # the written tokens have no weight
    assert project.store.record("tiny@1").id in record.parents


def test_both_are_weighted_and_the_teacher_is_read_once(
    teacher: Project, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = student(teacher, tiny_model_folder, "teacher_weight = 0.25\nteacher_top_k = 8")
    record = run(project)
    for line in (line for line in project.store.metrics(record) if "distillation" in line):
        assert line["loss"] == pytest.approx(0.75 * line["likelihood"] + 0.25 * line["distillation"], rel=1e-5)
    asked: list[int] = []
    hidden = LanguageModel.hidden

    def counted(self: LanguageModel, *args: object, **kwargs: object) -> torch.Tensor:
        asked.append(torch.is_grad_enabled())
        return hidden(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(LanguageModel, "hidden", counted)
    again = student(teacher, tiny_model_folder, "teacher_weight = 0.5\nteacher_top_k = 8")
    assert run(again).id != record.id
    assert sum(not grad for grad in asked) == 4 * 2  # the probes of four loaded and saved versions; no teacher


def test_the_teacher_is_part_of_the_work(teacher: Project, tiny_model_folder: Path) -> None:
    project = student(teacher, tiny_model_folder, "teacher_top_k = 8")
    first = run(project)
    assert run(project).id == first.id
    kept = set((project.store.cache / "logps").iterdir())
    warm = student(teacher, tiny_model_folder, "teacher_top_k = 8\nteacher_temperature = 3.0")
    second = run(warm)
    assert second.id != first.id and second.body["adapter"] != first.body["adapter"]
    assert (
        set((project.store.cache / "logps").iterdir()) > kept
    )  # what it said at one temperature is not read at another


def test_a_base_teaches_too(teacher: Project, tiny_model_folder: Path) -> None:
    project = make(teacher.folder, tiny_model_folder, f'teacher = "{tiny_model_folder}"\nteacher_top_k = 8')
    found = project.teacher()
    assert found is not None and found.version is None and found.identity == project.resolved_base.digest
    lines = project.store.metrics(run(project))
    assert lines[0]["distillation"] == pytest.approx(0.0, abs=1e-4)  # it is the student itself, before the first step


def test_a_teacher_with_another_tokenizer_is_refused(teacher: Project, tiny_model_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_model_folder, other)
    spec = json.loads((other / "tokenizer.json").read_text())
    vocab = spec["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (other / "tokenizer.json").write_text(json.dumps(spec))
    project = make(teacher.folder, tiny_model_folder, f'teacher = "{other}"')
    with pytest.raises(ModelError, match="has another tokenizer than the base") as said:
        project.teacher()
    assert said.value.exit_code == 2 and said.value.where == "sft.teacher"
    with pytest.raises(ConfigError, match="teacher_top_k has no use without a teacher"):
        make(teacher.folder, tiny_model_folder, "teacher_top_k = 8")
