"""Which charts a run's log gives: the known figures with their meaning, and whatever else was logged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from burnish.monitoring.runs import is_figure
from burnish.records import Json


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart: the log's keys that it draws, what each is called, its unit, and what the figure means."""

    title: str
    meaning: str
    keys: tuple[str, ...]
    unit: str = ""
    names: tuple[str, ...] = ("",)


BOTH = ("sampled", "dev")
HELD = "held out"
REWARDS = ("preference/chosen_reward", "preference/rejected_reward")

KNOWN = (
    Panel("Loss", "What the run minimises: each term times its weight.", ("loss",)),
    Panel(
        "Held-out figure",
        "Measured before an update on rows that are not trained on; it chooses what is kept.",
        ("held_out",),
    ),
    Panel(
        "Reward",
        "Mean reward of the sampled answers, and of answers to the dev prompts.",
        ("reward", "dev_reward"),
        names=BOTH,
    ),
    Panel(
        "Reward gained",
        "By how much answers to the dev prompts earn more than the start's did; by the second reward model too.",
        ("dev_gain", "dev_held_out_gain"),
        "reward",
        ("paid", HELD),
    ),
    Panel(
        "Second reward model",
        "Mean reward by the model that the policy does not learn from, on dev prompts.",
        ("dev_held_out_reward",),
    ),
    Panel(
        "Wins by raters",
        "Share of votes that took the answer to a dev prompt over the start's; 0.5 is no better.",
        ("dev_win_share", "dev_win_share_low", "dev_win_share_high"),
        "share",
        ("won", "interval from", "interval to"),
    ),
    Panel(
        "Votes read",
        "Votes on the answers that the wins are about: by people, by simulated raters, and by a judge.",
        ("dev_votes_human", "dev_votes_simulated", "dev_votes_judge"),
        "votes",
        ("people", "simulated", "judge"),
    ),
    Panel("Repetition", "Share of repeated 4-grams in answers to the dev prompts.", ("dev_repetition",), "share"),
    Panel(
        "KL to the start",
        "How far the answers have moved from the start version.",
        ("kl", "dev_kl"),
        "nats a token",
        BOTH,
    ),
    Panel("Length", "Mean length of the answers.", ("length", "dev_length"), "tokens", BOTH),
    Panel(
        "Length moved",
        "By which share of the start's length the answers to the dev prompts are longer; the brake reads the interval.",
        ("dev_length_moved", "dev_length_moved_low", "dev_length_moved_high"),
        "share",
        ("moved", "interval from", "interval to"),
    ),
    Panel(
        "Loss on written answers",
        "Negative log-likelihood of the training answers.",
        ("likelihood", "chosen"),
        "nats a token",
        ("written", "chosen"),
    ),
    Panel(
        "Loss on comparisons", "Bradley-Terry loss of the reward model; a coin has 0.693.", ("pairwise",), "nats a vote"
    ),
    Panel("Loss on preferences", "Mean over votes, in the form of the method.", ("preference", "kto"), "", ("", "kto")),
    Panel(
        "Accuracy",
        "Share of the votes that the model agrees with, a tie counting a half.",
        ("pairwise/accuracy", "preference/accuracy", "kto/accuracy", "held_out_accuracy"),
        "share",
        ("trained on", "trained on", "trained on", HELD),
    ),
    Panel("Margin", "Mean difference of reward between the two answers of a pair.", ("pairwise/margin",), "reward"),
    Panel(
        "Margin to the reference",
        "By how many nats the better answer leads; exactly 0 means that nothing was learned.",
        ("preference/margin", "kto/margin", "held_out_margin"),
        "nats",
        ("trained on", "trained on", HELD),
    ),
    Panel(
        "Implicit rewards",
        "Reward of the answer that a vote chose, and of the other.",
        REWARDS,
        "",
        ("chosen", "rejected"),
    ),
    Panel("Gradient norm", "Length of the gradient before it is clipped to 1.", ("gradient_norm",)),
    Panel("Learning rate", "The rate of each update.", ("learning_rate",)),
    Panel(
        "Tokens a second",
        "Tokens trained on in a second of the update, sampling apart.",
        ("tokens_per_second",),
        "tokens/s",
    ),
    Panel(
        "Entropy",
        "How open the next token still is; near 0 the model repeats itself.",
        ("entropy/entropy",),
        "nats a token",
    ),
    Panel("Clip share", "Share of tokens whose gradient the clip removed.", ("policy/clip_share",), "share"),
    Panel(
        "Diversity",
        "Share of different answers within a group; of different 2-grams over all answers to the dev prompts.",
        ("diversity", "dev_distinct"),
        "share",
        ("answers", "2-grams"),
    ),
    Panel(
        "Sampler mismatch",
        "Mean exp |difference of logprobs| between sampler and trainer; 1 is exact.",
        ("mismatch",),
    ),
    Panel(
        "Importance",
        "Mean weight of a token for a sampler that is not exact, and the share of tokens at the weight's cap.",
        ("policy/importance", "policy/truncated_share"),
        "",
        ("weight", "at the cap"),
    ),
    Panel(
        "Cut share", "Share of answers that the length limit cut off.", ("cut_share", "dev_cut_share"), "share", BOTH
    ),
    Panel("Idle share", "Share of tokens in groups of equal reward, which teach nothing.", ("idle_share",), "share"),
    Panel("Ratio", "Mean probability ratio of the policy to the one that sampled; 1 is on policy.", ("policy/ratio",)),
    Panel("Policy loss", "The clipped surrogate; it says little by itself, its sign and size may wander.", ("policy",)),
    Panel("Tokens", "Tokens of each update, prompts included.", ("tokens",), "tokens"),
)
TELLING = ("reward", "kl", "length", "held_out", "loss", "pairwise/accuracy", "likelihood", "pairwise")
TERMS = ("likelihood", "chosen", "pairwise", "preference", "kto", "policy", "objective", "distillation")
# not figures of their own: kl/kl is kl, and the entropy term's loss is the entropy with its sign turned
UNSHOWN = frozenset(
    {"step", "at", "kl/kl", "entropy", "dev_votes_up_to", "dev_voted"}
    | {f"{name}_{end}" for name in ("dev_gain", "dev_held_out_gain") for end in ("low", "high")}
)


def panels(lines: Sequence[Mapping[str, Json]]) -> list[Panel]:
    """The charts for a log, known ones first; a figure that is not known gets a chart under its own name.

    A term that is the whole loss has no chart beside the loss.
    """
    logged = dict.fromkeys(key for line in lines for key, value in line.items() if is_figure(value))
    whole = {key for key in TERMS if key in logged and _is_loss(lines, key)}
    found = [panel for known in KNOWN if (panel := _present(known, [key for key in logged if key not in whole]))]
    drawn = {key for panel in KNOWN for key in panel.keys} | UNSHOWN | whole
    return found + [Panel(_plain(key), f"Logged as {key}.", (key,)) for key in logged if key not in drawn]


def place_of(panel: Panel) -> int:
    """Where a chart stands among all charts: those of several runs are put together by it."""
    return next((place for place, known in enumerate(KNOWN) if known.title == panel.title), len(KNOWN))


def last_figures(lines: Sequence[Mapping[str, Json]], most: int = 3) -> str:
    """The newest line's most telling figures in words: ``reward 0.42 · KL to the start 0.031``."""
    said: dict[str, str] = {}
    titles = {panel.keys[0]: panel.title for panel in KNOWN}
    for key in TELLING:
        value = next((line[key] for line in reversed(lines) if key in line), None)
        if value is not None and is_figure(value):
            text = f"{titles[key].lower()} {value if isinstance(value, str) else f'{value:.3g}'}"
            said[key] = text.replace("kl to", "KL to")
    if "loss" in said:  # in a stage of one term the two are one figure
        said = {key: text for key, text in said.items() if key not in ("likelihood", "pairwise")}
    return " · ".join(list(said.values())[:most])


def _is_loss(lines: Sequence[Mapping[str, Json]], term: str) -> bool:
    losses = [(line["loss"], line.get(term)) for line in lines if "loss" in line]
    return bool(losses) and all(loss == value for loss, value in losses)


def _present(panel: Panel, logged: Iterable[str]) -> Panel | None:
    kept = [(key, name) for key, name in zip(panel.keys, panel.names, strict=True) if key in logged]
    if not kept:
        return None
    keys, names = zip(*kept, strict=True)
    return Panel(panel.title, panel.meaning, keys, panel.unit, names if len(kept) > 1 else ("",))


def _plain(key: str) -> str:
    words = key.replace("_", " ").replace("/", ": ")
    return words[:1].upper() + words[1:]
