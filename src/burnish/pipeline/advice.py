"""What is worth doing with these rows, this machine and this many raters: rules of thumb, stated as such.

Each line names its rule and the number behind it, so that a reader can disagree with it.
"""

from __future__ import annotations

from dataclasses import dataclass

FEW_ROWS = 32  # below: examples in the prompt do as well as training on them, as a rule
ENOUGH_ROWS = 200  # from here on supervised training pays on a narrow task
HELD_OUT = 50  # independent held-out prompts that a gate needs
VOTES_PER_HOUR = 60  # one rater, two short answers a minute apart
ENOUGH_VOTES = 200  # comparisons below which a learned reward is mostly noise
LONG = 4 * 3600.0  # seconds: longer than a person waits for a first result


@dataclass(frozen=True, slots=True)
class Situation:
    """What the advice looks at.

    ``rows`` are answered training rows, ``held_out`` independent prompts of the split that decides, ``votes`` are cast
    already, ``raters`` people at hand, ``judge`` the model whose votes are learned from (None: none), ``seconds`` the
    estimated training time (None: not known), ``own_reward`` says that the recipe brings a function to be rewarded
    by, ``pairs`` are judged answers that it brings in a file.
    """

    rows: int
    held_out: int
    votes: int
    raters: int
    simulated: bool
    judge: str | None = None
    seconds: float | None = None
    fits: bool | None = None
    own_reward: bool = False
    pairs: int = 0


def advise(now: Situation) -> list[str]:
    """Prompt only, supervised training, preferences, reinforcement learning: and what speaks for or against each."""
    return [_prompt(now), _supervised(now), _feedback(now), _online(now), *_machine(now)]


def _prompt(now: Situation) -> str:
    if now.rows < FEW_ROWS:
        return (
            f"prompt only: start here; under {FEW_ROWS} rows, examples in the prompt do as well as training, as a rule "
            "(evaluate.prompt_only measures it)"
        )
    return "prompt only: keep it as the reference to beat (evaluate.prompt_only measures it)"


def _supervised(now: Situation) -> str:
    if now.held_out < HELD_OUT:
        return (
            f"sft: {now.held_out} independent held-out prompts cannot show that it helped: a gate needs {HELD_OUT}; "
            "collect held-out rows first"
        )
    if now.rows < FEW_ROWS:
        return f"sft: not yet; {now.rows} rows are learned by heart; collect {FEW_ROWS} or more"
    if now.rows < ENOUGH_ROWS:
        return f"sft: worth a try with {now.rows} rows; style is learned from few, facts are not ({ENOUGH_ROWS}: safer)"
    return f"sft: worth it with {now.rows} rows"


def _feedback(now: Situation) -> str:
    missing = max(0, ENOUGH_VOTES - now.votes - now.pairs)
    counts = ((now.pairs, "rows"), (now.votes, "votes"))
    there = " and ".join(f"{count} {what}" for count, what in counts if count)
    if not missing:
        return f"preferences: worth it; {there} are in, and {ENOUGH_VOTES} are enough to learn from"
    if now.pairs:
        return f"preferences: {there} are in, and {ENOUGH_VOTES} are enough to learn from; below, much of it is noise"
    if now.simulated:
        return "preferences: the simulated raters vote by themselves; that shows the machinery, not what people like"
    if now.judge is not None:
        return (
            f"preferences: {now.judge} compares by itself; let people vote on some of its pairs, and see in "
            "`burnish status` how far it takes their side, before you trust it"
        )
    if not now.raters:
        return (
            f"preferences: nobody rates yet; one person gives about {VOTES_PER_HOUR} votes an hour, and {missing} more "
            "are needed"
        )
    hours = missing / (VOTES_PER_HOUR * now.raters)
    return (
        f"preferences: {missing} more votes are about {hours:.1f} hours of {now.raters} "
        f"rater{'s' * (now.raters > 1)} at {VOTES_PER_HOUR} votes an hour"
    )


def _online(now: Situation) -> str:
    if now.simulated or now.judge or now.own_reward or now.votes + now.pairs >= ENOUGH_VOTES:
        if now.held_out < HELD_OUT:
            return f"rl: not before {HELD_OUT} held-out prompts can judge it"
        return "rl: possible; it costs several times sft, so let preferences alone show a gain first"
    return f"rl: not before {ENOUGH_VOTES} votes: it would climb the reward's noise"


def _machine(now: Situation) -> list[str]:
    said = []
    if now.fits is False:
        said.append("memory: it does not fit this machine; a smaller base needs least, then a smaller adapt.layers")
    if now.seconds is not None and now.seconds > LONG:
        said.append(
            f"time: about {now.seconds / 3600:.0f} hours here; adapt.layers = 4 trains only the last layers, and a "
            "smaller base costs least"
        )
    return said
