"""The check sees, before any step, what a run would pay for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from burnish.cli import main
from burnish.data import gather, read_files
from burnish.errors import BurnishError, ConfigError, DataError, ModelError
from burnish.pipeline import Project
from burnish.pipeline.preflight import Check, Marked, preflight, tokens
from burnish.progress import Silent
from burnish.sampling import kernel

WORDS = "amber basil cedar delta ember fjord grove heron inlet juniper kelp larch maple north olive pine".split()


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    """Rows that share no run of five words."""
    found = []
    for n in range(start, start + count):
        a, b, c = WORDS[n % 16], WORDS[n // 16 % 16], n
        found.append({"prompt": f"{a} {c} asks {b} {c} where {a} {c}", "completion": f"{b} {c} says {a} {c}."})
    return found


def project(folder: Path, base: Path, train: list[dict[str, str]], more: str = "", **splits: list[dict]) -> Project:
    names = {"train": train, "dev": rows(60, 1000), "test": rows(60, 2000), **splits}
    data = []
    for name, found in names.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
        data.append(f'{name} = "{name}.jsonl"')
    recipe = folder / "bot.toml"
    lines = "\n".join(data)
    recipe.write_text(f'task = "chat"\nbase = "{base}"\n\n[data]\n{lines}\nsystem = ""\n{more}')
    return Project(recipe, progress=Silent())


def lines(check: Check, title: str) -> str:
    return "\n".join(next(section.lines for section in check.sections if section.title.startswith(title)))


def test_rows_read_and_left_out_with_their_numbers(tmp_path: Path, tiny_model_folder: Path) -> None:
    twice = rows(40)
    check = preflight(project(tmp_path, tiny_model_folder, [*twice, twice[3]], dev=[twice[5], *rows(60, 1000)]))
    said = lines(check, "rows")
    assert "train: train.jsonl, 41 rows read (JSONL, prompt and completion), 1 left out" in said
    assert "left out: row 41: repeats row 4" in said
    assert "left out: row 1: its prompt nearly repeats training row 6" in said
    assert "split: 40 train, 60 dev, 60 test, 0 prompts" in said
    alike = lines(check, "likeness")
    assert "duplicates within a file: 1 (train 41)" in alike
    assert "near-duplicates across splits, left out: 1 (dev 1)" in alike
    assert "contradicting answers to near-identical prompts: none" in alike
    assert check.to_json()["rows"]["files"]["train"]["left_out"] == [{"row": 41, "reason": "repeats row 4"}]


def test_contradicting_answers_are_named(tmp_path: Path, tiny_model_folder: Path) -> None:
    other = {"prompt": "Basil 1 asks amber 1, where basil 1?", "completion": "Nobody knows."}
    check = preflight(project(tmp_path, tiny_model_folder, [*rows(40), other]))
    said = "train: contradicting answers to near-identical prompts: 1 (rows 2/41)"
    assert said in lines(check, "likeness")
    assert check.to_json()["likeness"]["contradictions"]["train"] == [[2, 41]]


def test_the_audit_shows_what_is_trained_of_an_example(tmp_path: Path, tiny_model_folder: Path) -> None:
    check = preflight(project(tmp_path, tiny_model_folder, rows(40)))
    said = lines(check, "tokens")
    assert "40 rows end with a trained stop token" in said
    assert "template round trip: 40 of 40 rows give the ids trained" in said
    assert "the stop token <|im_end|> is trained in every row" in said
    assert check.example is not None
    source = rows(40)[check.example.row - 1]
    plain = check.example.text(colour=False)
    assert plain.endswith(f"<|im_start|>assistant\n«{source['completion']}<|im_end|>»")
    assert source["prompt"] in plain.split("«")[0]
    coloured = check.example.text(colour=True)
    assert f"\x1b[1;32m{source['completion']}<|im_end|>\x1b[0m" in coloured and "«" not in coloured
    shown = "\n".join(check.lines())
    assert f"training row {check.example.row} (what stands between « and » is trained)" in shown


def test_text_of_a_row_does_not_steer_the_terminal() -> None:
    marked = Marked(1, (("\x1b[2Jgone\n", False), ("\u202eback", True)))
    assert marked.text(colour=False) == "\\x1b[2Jgone\n«\\x202eback»"


def test_what_a_shorter_limit_would_refuse(tmp_path: Path, tiny_model_folder: Path) -> None:
    long = {"prompt": "zebra " * 30, "completion": "done"}
    check = preflight(project(tmp_path, tiny_model_folder, [*rows(40), long], "max_length = 256"))
    said = lines(check, "tokens")
    assert "data.max_length = 256 cuts nothing (a longer row is refused); 128 would refuse 1, 64 would refuse" in said


def test_a_row_that_would_be_cut_stops_the_check(tmp_path: Path, tiny_model_folder: Path) -> None:
    long = {"prompt": "zebra " * 30, "completion": "done"}
    with pytest.raises(DataError, match=r"row 41: .*cut off|row 41: .*truncated away"):
        preflight(project(tmp_path, tiny_model_folder, [*rows(40), long], "max_length = 100"))


def test_the_template_that_renders_otherwise_is_told(tmp_path: Path, tiny_model_folder: Path) -> None:
    import shutil

    base = tmp_path / "base"
    shutil.copytree(tiny_model_folder, base)
    template = base / "chat_template.jinja"
    wrapped = "message['content'] + ('!' if message['role'] == 'assistant' and not add_generation_prompt else '')"
    template.write_text(template.read_text().replace("message['content']", wrapped))
    said = lines(preflight(project(tmp_path, base, rows(40))), "tokens")
    assert "template round trip: 0 of 40 rows give the ids trained" in said
    assert (
        "rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 30 more: the template renders the answer or its end otherwise" in said
    )


def test_every_auto_says_what_it_became(tmp_path: Path, tiny_model_folder: Path) -> None:
    check = preflight(
        project(tmp_path, tiny_model_folder, rows(40), "[sft]\nlearning_rate = 3e-4\n[reward]\nlayers = 2\n[rl]\n")
    )
    said = lines(check, "settings")
    assert "sft.learning_rate = 0.0003 (recipe)" in said and "sft.batch_size = 4 (auto: 40 rows)" in said
    assert "sft.learning_rate: no probe: the recipe gives the rate" in said
    assert "reward.epochs = 2 (auto: " in said and "rl.kl = 0.02 (auto: " in said
    assert check.to_json()["settings"]["sft"]["learning_rate"] == {"value": 3e-4, "why": "recipe"}


def test_gates_that_can_never_pass(tmp_path: Path, tiny_model_folder: Path) -> None:
    rules = (
        '[[gate]]\nmetric = "changed"\nat_least = 0.99\n'
        '[[gate]]\nmetric = "loss"\nagainst = "prompt_only"\nbetter_by = 0.0\n'
        '[[gate]]\nmetric = "loss"\nagainst = "base"\nbetter_by = 0.0\n'
        "[evaluate]\nprompt_only = false\n"
    )
    said = lines(preflight(project(tmp_path, tiny_model_folder, rows(40), rules)), "gates")
    assert "the rule on changed can never pass: even if all of 60 prompts say yes, the lower end is 0.9" in said
    assert "the rule on loss can never pass: prompt_only is not among the contenders" in said
    assert said.count("can never pass") == 2 and "a run would end in a no" in said


def test_few_held_out_rows_can_pass_no_gate(tmp_path: Path, tiny_model_folder: Path) -> None:
    check = preflight(project(tmp_path, tiny_model_folder, rows(40), test=rows(10, 2000)))
    said = lines(check, "gates")
    assert said.count("can never pass") == 1
    assert (
        "sft: the rules on loss, changed can never pass: 10 independent held-out prompts, and a gate needs 50" in said
    )
    assert "sft: 10 independent held-out prompts cannot show that it helped" in lines(check, "advice")


def test_a_gate_on_nothing_is_refused(tmp_path: Path, tiny_model_folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown metric"):
        preflight(project(tmp_path, tiny_model_folder, rows(40), '[[gate]]\nmetric = "beauty"\nat_least = 1.0\n'))


def test_the_command(tmp_path: Path, tiny_model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, tiny_model_folder, rows(40)).path
    with pytest.raises(SystemExit) as leaving:
        main(["check", str(path), "--json", "--raters", "3"])
    found = json.loads(capsys.readouterr().out)
    assert leaving.value.code == 0
    assert found["rows"]["split"]["train"] == 40 and found["example"]["pieces"][1]["trained"]
    assert any("about 1.1 hours of 3 raters" in line for line in found["advice"])
    assert not (tmp_path / ".burnish").exists()  # looking makes no store


def test_a_stop_token_that_is_not_trained_is_named(tmp_path: Path, tiny_model_folder: Path) -> None:
    bot = project(tmp_path, tiny_model_folder, rows(40))
    examples = gather(bot.recipe, read_files(bot.recipe, bot.folder), bot.renderer)
    audited = examples.audits["train"]
    cut = replace(audited, rows=(replace(audited.rows[0], stop=False), *audited.rows[1:]))
    said = "\n".join(tokens(replace(examples, audits={"train": cut}), bot.renderer).lines)
    assert "the stop token <|im_end|> is not trained in row 1: such answers never end" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            '[adapt]\ntargets = ["q_prj"]',
            r'adapt.targets: no module .* is called "q_prj"\n  known are down_proj, .*v_proj',
        ),
        ("[adapt]\nfreeze = 99", "adapt.freeze: cannot freeze the lowest 99 layers: the model has 2\n  at most 1"),
        ('[adapt]\nfreeze = ["layers"]', "adapt.freeze: everything is frozen"),
        ('[adapt]\nmethod = "last"\nlayers = 3', "adapt.layers: cannot train the last 3 layers: 2 can be"),
        ("[adapt]\nrank = 65", "adapt.rank: rank 65 is larger than model.layers.0.mlp.down_proj, which is 64 x 128"),
        ("[reward]\n[rl]", "reward.layers: cannot train the last 6 layers: 2 can be"),
    ],
)
def test_what_does_not_fit_the_layers_is_refused_without_an_update(
    tmp_path: Path, tiny_model_folder: Path, more: str, said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        preflight(project(tmp_path, tiny_model_folder, rows(40), more))


def test_the_layers_are_looked_at_without_reading_weights(tmp_path: Path, tiny_model_folder: Path) -> None:
    from burnish.models.base import resolve_base
    from burnish.models.skeleton import skeleton

    module = skeleton(resolve_base(str(tiny_model_folder), tmp_path))
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}
    assert module.get_submodule("model.layers.1.mlp.down_proj").weight.shape == (64, 128)


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(
    ("dtype", "more", "why"),
    [
        ("float32", "", None),
        ("bfloat16", "", "its weights are bfloat16, not float32"),
        ("float32", '[adapt]\nmethod = "dora"', 'adapt.method is "dora", whose layers are of another form'),
    ],
)
def test_layers_that_run_slowly_are_named_once_before_anything_is_spent(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch, dtype: str, more: str, why: str | None
) -> None:
    monkeypatch.setenv("BURNISH_DTYPE", dtype)
    bot = project(tmp_path, tiny_model_folder, rows(40), more)
    bot.progress = heard = Heard()
    preflight(bot)
    wanted = [f"transformers' own layers run instead of Burnish's faster ones: {why}"] if why else []
    assert [line for line in heard.lines if "layers" in line] == wanted


@pytest.mark.parametrize(("dtype", "why"), [("float32", ""), ("bfloat16", "no gcc"), ("float32", "no gcc")])
def test_without_a_compiler_drawing_is_said_to_be_slower(
    tmp_path: Path, tiny_model_folder: Path, monkeypatch, dtype: str, why: str
) -> None:
    monkeypatch.setenv("BURNISH_DTYPE", dtype)
    monkeypatch.setattr(kernel, "_searched", lambda: (None, why))
    bot = project(tmp_path, tiny_model_folder, rows(40))
    bot.progress = heard = Heard()
    preflight(bot)
    wanted = ["answers are drawn more slowly, by PyTorch's operators: no gcc"] if why and dtype == "float32" else []
    assert [line for line in heard.lines if "drawn" in line] == wanted


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            '[sft]\nteacher = "nowhere/at-all"',
            'sft.teacher: there is no base "nowhere/at-all"\n.* or name an own version',
        ),
        ('[sft]\nteacher = "bot@7"', 'sft.teacher: there is no (version|record) "bot@7"'),
        ("[sft]\nwarmup = 500", "sft.warmup: warmup = 500 does not fit"),
        ('[[gate]]\nmetric = "mine:own"\nat_least = 1.0', 'unknown metric "mine:own"'),
        ("[rl]\nwarmup = 90\n[reward]\nlayers = 2", "rl.warmup: warmup = 90 does not fit"),
        ('[adapt]\ntargets = ["q_prj"]', 'is called "q_prj"'),
    ],
)
def test_a_run_refuses_before_it_spends_what_the_check_refuses(
    tmp_path: Path, tiny_model_folder: Path, more: str, said: str
) -> None:
    bot = project(tmp_path, tiny_model_folder, rows(40), more)
    with pytest.raises(BurnishError, match=said):
        preflight(bot)
    assert not bot.has_store
    with pytest.raises(BurnishError, match=said):
        bot.run()
    assert not list(bot.store.path.glob("runs/*"))


def test_the_advice_counts_the_pairs_of_a_file(tmp_path: Path, tiny_model_folder: Path) -> None:
    pairs = [{"prompt": r["prompt"], "chosen": r["completion"], "rejected": "No."} for r in rows(60, 3000)]
    check = preflight(project(tmp_path, tiny_model_folder, rows(40), "[preference]\n", preferences=pairs))
    assert "preferences: 60 rows are in, and 200 are enough to learn from; below" in lines(check, "advice")
