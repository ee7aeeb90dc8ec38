"""Which charts a run's log gives: the known figures with their meaning, and whatever else was logged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from burnish.monitoring.runs import is_figure
from burnish.records import Json


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: the log's keys that it draws, what each is called, and what the figure means."""

    title: str
    meaning: str
    keys: tuple[str, ...]
    names: tuple[str, ...] = ("",)


BOTH = ("sampled", "dev")

KNOWN = (
    Panel(
        "Reward",
        "Mean learned reward of the sampled answers, and of answers to the dev prompts.",
        ("reward", "dev_reward"),
        BOTH,
    ),
    Panel(
        "KL to the start",
        "How far the answers have moved from the start version, in nats a token.",
        ("kl", "dev_kl"),
        BOTH,
    ),
    Panel("Length", "Mean length of the answers, in tokens.", ("length", "dev_length"), BOTH),
    Panel(
        "Entropy", "How open the next token still is, in nats; near 0 the model repeats itself.", ("entropy/entropy",)
    ),
    Panel("Clip share", "Share of tokens whose gradient the clip removed.", ("policy/clip_share",)),
    Panel("Diversity", "Share of different answers within a group to the same prompt.", ("diversity",)),
    Panel(
        "Sampler mismatch",
        "Mean exp |difference of logprobs| between sampler and trainer; 1 is exact.",
        ("mismatch",),
    ),
    Panel("Cut share", "Share of answers that the length limit cut off.", ("cut_share", "dev_cut_share"), BOTH),
    Panel("Idle share", "Share of tokens in groups of equal reward, which teach nothing.", ("idle_share",)),
    Panel("Ratio", "Mean probability ratio of the policy to the one that sampled; 1 is on policy.", ("policy/ratio",)),
    Panel(
        "Loss on written answers", "Negative log-likelihood of the training answers, in nats a token.", ("likelihood",)
    ),
    Panel("Loss on comparisons", "Bradley-Terry loss, in nats a vote; a coin has 0.693.", ("pairwise",)),
    Panel("Accuracy", "Share of the votes that the reward foresees, a tie counting a half.", ("pairwise/accuracy",)),
    Panel("Margin", "Mean difference of reward between the two answers of a pair.", ("pairwise/margin",)),
    Panel("Policy loss", "The clipped surrogate; it says little by itself, its sign and size may wander.", ("policy",)),
    Panel("Gradient norm", "Length of the gradient before it is clipped to 1.", ("gradient_norm",)),
    Panel("Learning rate", "The rate of each update.", ("learning_rate",)),
    Panel("Tokens a second", "Tokens trained on in a second of the update, sampling apart.", ("tokens_per_second",)),
    Panel("Tokens", "Tokens of each update, prompts included.", ("tokens",)),
)
TELLING = ("reward", "kl", "length", "likelihood", "pairwise", "pairwise/accuracy", "pairwise/margin")
# not figures of their own: kl/kl is kl, and the entropy term's loss is the entropy with its sign turned
UNSHOWN = frozenset({"step", "at", "kl/kl", "entropy"})


def panels(lines: Iterable[Mapping[str, Json]]) -> list[Panel]:
    """The charts for a log, known ones first; a figure that is not known gets a chart under its own name."""
    logged = dict.fromkeys(key for line in lines for key, value in line.items() if is_figure(value))
    found = [panel for known in KNOWN if (panel := _present(known, logged))]
    drawn = {key for panel in KNOWN for key in panel.keys} | UNSHOWN
    return found + [Panel(_plain(key), f"Logged as {key}.", (key,)) for key in logged if key not in drawn]


def last_figures(lines: Sequence[Mapping[str, Json]], most: int = 3) -> str:
    """The newest line's most telling figures in words: ``reward 0.42 · KL to the start 0.031``."""
    said = []
    for panel in (panel for panel in KNOWN if panel.keys[0] in TELLING):
        value = next((line[panel.keys[0]] for line in reversed(lines) if panel.keys[0] in line), None)
        if value is not None and is_figure(value):
            said.append(f"{panel.title.lower()} {value if isinstance(value, str) else f'{value:.3g}'}")
    return " · ".join(said[:most]).replace("kl to", "KL to")


def _present(panel: Panel, logged: Mapping[str, None]) -> Panel | None:
    kept = [(key, name) for key, name in zip(panel.keys, panel.names, strict=True) if key in logged]
    if not kept:
        return None
    keys, names = zip(*kept, strict=True)
    return Panel(panel.title, panel.meaning, keys, names if len(kept) > 1 else ("",))


def _plain(key: str) -> str:
    words = key.replace("_", " ").replace("/", ": ")
    return words[:1].upper() + words[1:]
