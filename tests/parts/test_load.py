"""Own parts are found beside the recipe or in installed packages, nowhere else, and hashed as they were read."""

from __future__ import annotations

import os
import py_compile
import sys
from pathlib import Path

import pytest

from burnish import config
from burnish.errors import ConfigError, PartError
from burnish.parts import Part, load, parts_of, sources

PAID = '[[rl.rewards]]\nkind = "own"\nfunction = "mine:score"\n'
RECIPE = 'task = "chat"\nbase = "b"\n[data]\ntrain = "rows.jsonl"\n'


def one(folder: Path, name: str = "mine:score") -> Part:
    return load([name], folder)[name]


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place on the path with an installed package, ``shop_parts`` 1.2, and a module of no package, ``stray``."""
    place = tmp_path / "site"
    write(place, "def score(reply):\n    return 1.0\n", "shop_parts/scores.py")
    write(place, "", "shop_parts/__init__.py")
    write(place, "Metadata-Version: 2.1\nName: shop-parts\nVersion: 1.2\n", "shop_parts-1.2.dist-info/METADATA")
    write(place, "shop_parts\n", "shop_parts-1.2.dist-info/top_level.txt")
    write(place, "def score(reply):\n    return 1.0\n", "stray.py")
    monkeypatch.syspath_prepend(place)
    return place


def test_from_beside_the_recipe(tmp_path: Path) -> None:
    write(tmp_path, "import helper\n\ndef score(reply):\n    return helper.TWO + reply\n")
    write(tmp_path, "TWO = 2\n", "helper.py")
    path, modules = list(sys.path), set(sys.modules)
    part = one(tmp_path)
    assert part(1) == 3
    assert sys.path == path and set(sys.modules) == modules
    assert not list(tmp_path.rglob("__pycache__"))


def test_from_a_package_beside_the_recipe(tmp_path: Path) -> None:
    write(tmp_path, "from .bits import ONE\n\ndef score(reply):\n    return ONE\n", "shop/rewards.py")
    write(tmp_path, "ONE = 1\n", "shop/bits.py")
    write(tmp_path, "", "shop/__init__.py")
    part = one(tmp_path, "shop.rewards:score")
    assert part(None) == 1
    assert part.source.startswith("shop/__init__.py, shop/bits.py, shop/rewards.py ")


def test_from_an_installed_package(tmp_path: Path, installed: Path) -> None:
    part = one(tmp_path, "shop_parts.scores:score")
    assert part(None) == 1.0
    assert part.source.startswith("shop-parts 1.2 scores.py ") and len(part.source.split()[-1]) == 64


def test_two_projects_may_have_modules_of_one_name(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        write(tmp_path / name, "import helper\n\ndef score(reply):\n    return helper.VALUE\n")
        write(tmp_path / name, f"VALUE = {value}\n", "helper.py")
    first, second = one(tmp_path / "a"), one(tmp_path / "b")
    assert (first(None), second(None)) == (1, 2)
    assert first.source != second.source


def test_a_module_of_that_name_that_is_loaded_already_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = type(sys)("mine")
    monkeypatch.setitem(sys.modules, "mine", other)
    write(tmp_path, "def score(reply):\n    return 7\n")
    assert one(tmp_path)(None) == 7
    assert sys.modules["mine"] is other


@pytest.mark.parametrize("changed", ["mine.py", "helper.py"])
def test_a_change_of_any_file_that_was_read_is_another_source(tmp_path: Path, changed: str) -> None:
    write(tmp_path, "import helper\n\ndef score(reply):\n    return helper.VALUE\n")
    write(tmp_path, "VALUE = 1\n", "helper.py")
    before = one(tmp_path)
    assert one(tmp_path).source == before.source
    path = tmp_path / changed
    stamp = path.stat()
    path.write_text(path.read_text().replace("1", "2").replace("reply)", "other)"))  # same size, same second
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    after = one(tmp_path)
    assert after.source != before.source
    assert after(None) == (2 if changed == "helper.py" else 1)


def test_stale_bytecode_is_not_run(tmp_path: Path) -> None:
    path = write(tmp_path, "def score(reply):\n    return 1\n")
    stamp = path.stat()
    py_compile.compile(str(path))
    assert list(tmp_path.rglob("*.pyc"))
    path.write_text("def score(reply):\n    return 2\n")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert one(tmp_path)(None) == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mine", "names no part"),
        ("mine:", "names no part"),
        ("../mine:score", "names no part"),
        ("..mine:score", "names no part"),
        ("/tmp/mine:score", "names no part"),
        ("mine.py:score", 'there is no module "mine.py"'),
        ("https://evil.org/mine:score", "names no part"),
        ("mine:score()", "names no part"),
        ("mine:Reward.score", "names no part"),
        ("nowhere:score", 'there is no module "nowhere".*beside the recipe: json.py'),
        ("stray:score", 'there is no module "stray"'),
        ("outside:score", 'there is no module "outside"'),
        ("linked:score", 'there is no module "linked"'),
        ("os:system", "belongs to Python's standard library"),
        ("json:score", "belongs to Python's standard library"),
        ("burnish.errors:BurnishError", "belongs to Burnish"),
        ("shop_parts:score", "there is .*recipe/shop_parts.py and also .*site/shop_parts"),
        ("mine:scroe", 'there is no "scroe" in .*mine.py(\n|.)*did you mean "score"'),
        ("mine:LIMIT", "is a float, not a function"),
    ],
)
def test_what_is_no_part(tmp_path: Path, installed: Path, name: str, said: str) -> None:
    folder = tmp_path / "recipe"
    write(folder, "LIMIT = 1.0\n\ndef score(reply):\n    return 1.0\n")
    write(folder, "def score(reply):\n    return 1.0\n", "json.py")
    write(folder, "def score(reply):\n    return 1.0\n", "shop_parts.py")
    (folder / "linked.py").symlink_to(write(tmp_path, "def score(reply):\n    return 1.0\n", "outside.py"))
    with pytest.raises(PartError, match=r"(?s)" + said):
        one(folder, name)


def test_a_file_that_is_named_like_the_standard_library_does_not_stand_in_for_it(tmp_path: Path) -> None:
    write(tmp_path, "import time\n\ndef score(reply):\n    return time.time()\n")
    write(tmp_path, "raise RuntimeError('shadowed')\n", "time.py")
    assert one(tmp_path)(None) > 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nothing_like_it\n", r"mine.py line 1: .*cannot be imported: ModuleNotFoundError"),
        ("x = 1\ny = x / 0\n", r"mine.py line 2: .*cannot be imported: ZeroDivisionError"),
        ("def score(reply)\n    return 1\n", r"mine.py line 1: .*SyntaxError"),
        ("import sys\n\nsys.exit('no')\n", r"mine.py line 3: .*SystemExit: no"),
    ],
)
def test_a_mistake_in_the_module_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(PartError, match=said) as caught:
        one(tmp_path)
    assert caught.value.exit_code == 2
    assert "in your own code" in str(caught.value)


def test_an_environment_beside_the_recipe_is_not_the_users_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / ".venv" / "site-packages"
    write(site, "def fail():\n    raise OSError('gone')\n", "their_parts.py")
    monkeypatch.syspath_prepend(site)
    write(tmp_path, "import their_parts\n\ntheir_parts.fail()\n")
    with pytest.raises(PartError, match=r"mine.py line 3: .*OSError: gone"):
        one(tmp_path)


def test_a_mistake_in_a_call_is_said_with_its_line_and_the_row(tmp_path: Path) -> None:
    write(tmp_path, "def score(reply):\n    return inner(reply)\n\ndef inner(reply):\n    return {}[reply]\n")
    with pytest.raises(PartError, match=r"mine.py line 5: .*raised on row 12 KeyError: 'x'"):
        one(tmp_path)("x", about="row 12")


def test_the_parts_of_a_recipe(tmp_path: Path) -> None:
    write(tmp_path, "def score(reply):\n    return 1.0\n\ndef advantages(rewards_NG):\n    return rewards_NG\n")
    path = write(tmp_path, RECIPE + '[evaluate]\nmetrics = ["mine:score"]\n[rl]\n', "bot.toml")
    path.write_text(path.read_text() + f'algorithm = "mine:advantages"\n{PAID}')
    parts = parts_of(config.load(path), tmp_path)
    reward = parts.rewards["mine:score"]
    assert parts.credit is not None
    assert [part.name for part in parts.metrics] == ["mine:score"]
    assert sources([reward, parts.credit]) == {
        "parts": {"mine:score": reward.source, "mine:advantages": parts.credit.source}
    }
    plain = write(tmp_path, RECIPE, "plain.toml")
    assert sources([parts_of(config.load(plain), tmp_path).credit]) == {}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[evaluate]\nmetrics = ["../evil:score"]\n', '"evaluate.metrics" cannot be .*package.module:function'),
        ('[rl]\n[[rl.rewards]]\nkind = "own"\nfunction = "evil.py"\n', "package.module:function"),
        ('[preference]\nlearn_from = ["compare"]\nmethod = "dpoo"\n', "\"preference.method\" cannot be 'dpoo'"),
        (f'[rl]\nalgorithm = "gpro"\n{PAID}', "\"rl.algorithm\" cannot be 'gpro'"),
        (f'[rl]\nalgorithm = "mine:credit"\nscale = "batch"\n{PAID}', "scale is not read by mine:credit"),
        ("[rl]\n", "or parts of the reward that are not learned"),
    ],
)
def test_a_recipe_that_names_a_part_wrongly(tmp_path: Path, table: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config.load(write(tmp_path, RECIPE + table, "bot.toml"))
