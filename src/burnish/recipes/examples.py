"""Ready examples: a recipe with its data, copied out of the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from burnish.errors import ConfigError

EXAMPLES = {"support": ("recipe.toml", "train.jsonl", "dev.jsonl", "test.jsonl", "prompts.jsonl", "DATA_CARD.md")}


def copy_example(name: str, folder: Path) -> Path:
    """Copy an example's files into ``folder``; the recipe becomes ``NAME.toml``. Files that are there stay as they are.

    Returns:
        The path of the recipe.

    Raises:
        ConfigError: There is no such example.
    """
    if name not in EXAMPLES:
        raise ConfigError(f'there is no example "{name}"', mend=f"known: {', '.join(EXAMPLES)}")
    folder.mkdir(parents=True, exist_ok=True)
    source = resources.files("burnish.recipes") / name
    for file in EXAMPLES[name]:
        target = folder / (f"{name}.toml" if file == "recipe.toml" else file)
        if not target.exists():
            target.write_bytes((source / file).read_bytes())
    return folder / f"{name}.toml"
