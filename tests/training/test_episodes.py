"""Episodes: what an environment says is read and never trained, and what was sampled stays as it was sampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from burnish.config import Rl
from burnish.config.algorithms import Knobs
from burnish.data import Renderer
from burnish.errors import DataError, PartError
from burnish.models.language import LanguageModel
from burnish.models.reward import RewardModel
from burnish.objectives import Answer, Tree, pack
from burnish.objectives.reading import given as values_of
from burnish.objectives.terms import Outputs
from burnish.parts import Part
from burnish.records import Message, Row
from burnish.rewards.learned import score_answers
from burnish.rewards.scores import Asked, Scores
from burnish.sampling import Engine, Params, Sample
from burnish.tasks.chat import ChatTask
from burnish.training.algorithms import ALGORITHMS, Graded
from burnish.training.credit import gae
from burnish.training.episodes import Episodes, turns
from burnish.training.measured import Measured, as_trees, with_reference, with_stream
from burnish.training.plan import Plan
from burnish.training.rollouts import Rollouts

ROWS = [Row((Message("user", text),), "4", n) for n, text in enumerate(("2 + 2?", "one and three?", "4?"), 1)]
STOP = 293  # <|im_end|> of the tiny tokenizer


class Asking:
    """Asks again until it has heard ``most`` answers; pays one for each, and what its seed says."""

    def __init__(self, row: Row, seed: int, most: int = 3) -> None:
        self.row, self.seed, self.most, self.heard = row, seed, most, 0

    def reply(self, answer: str) -> str | None:
        self.heard += 1
        return None if self.heard == self.most else f"again, {self.row.number}: {len(answer)}"

    def reward(self) -> float:
        return float(self.heard)


def environment(function: Any = Asking) -> Part:
    return Part("game:start", function, "game.py 0", (Path(__file__),))


@pytest.fixture(scope="module")
def renderer(tiny_model_folder: Path) -> Renderer:
    return Renderer.from_folder(tiny_model_folder, "")


def asked(renderer: Renderer, rows: Sequence[Row] = ROWS) -> list[Asked]:
    return [Asked(renderer.prompt(row.prompt), row) for row in rows]


def episodes(renderer: Renderer, function: Any = Asking, most: int = 4, context: int | None = 512) -> Episodes:
    return Episodes(environment(function), renderer, most, context, pays=True)


class Scripted:
    """A sampler that says in turn what it was given, and remembers what it was asked."""

    def __init__(self, *rounds: list[list[Sample]]) -> None:
        self.rounds, self.prompts, self.seeds = list(rounds), [], []  # type: ignore[var-annotated]

    def sample(self, prompts: Any, n: int, params: Params, progress: Any = None) -> list[list[Sample]]:
        self.prompts.append([list(prompt) for prompt in prompts])
        self.seeds.append(params.seed)
        return self.rounds[len(self.prompts) - 1]


def said(*ids: int, finish: Any = "stop") -> Sample:
    return Sample(ids, tuple(-float(i) / 100 for i in ids), finish)


def test_an_episode_by_hand(renderer: Renderer) -> None:
    """Two prompts, the second of which ends after its first answer; the first answer of the other one is cut."""
    second = lambda row, seed: Asking(row, seed, 2 if row.number == 1 else 1)  # noqa: E731
    engine = Scripted([[said(40, 41, finish="length")], [said(50, STOP)]], [[said(60, STOP)]])
    (long,), (short,) = episodes(renderer, second).play(engine, asked(renderer, ROWS[:2]), 1, Params(seed=5))
    assert short == replace(said(50, STOP), paid=1.0)
    between = [STOP, *renderer.following(ROWS[0].prompt, ["again, 1: 2"])]  # a cut answer gets the end it lacks
    assert renderer.marked(between) == "<|im_end|>\n<|im_start|>user\nagain, 1: 2<|im_end|>\n<|im_start|>assistant\n"
    assert engine.prompts[1] == [[*asked(renderer)[0].ids, 40, 41, *between]]
    assert long.ids == (40, 41, *between, 60, STOP)
    assert long.weights == [1.0, 1.0, *[0.0] * len(between), 1.0, 1.0] and long.drawn == (40, 41, 60, STOP)
    assert long.logprobs == (-0.4, -0.41, *[0.0] * len(between), -0.6, -2.93)
    assert long.said == (Message("assistant", renderer.text([40, 41])), Message("user", "again, 1: 2"))
    assert (long.finish_reason, long.paid, long.last) == ("stop", 2.0, 2 + len(between))
    assert turns([[long], [short]]) == 1.5 and len(set(engine.seeds)) == 2  # no turn draws the numbers of another


def test_a_limit_ends_an_episode(renderer: Renderer) -> None:
    rounds = [[[said(40, STOP)]] for _ in range(3)]
    ((three,),) = episodes(renderer, most=2).play(Scripted(*rounds), asked(renderer, ROWS[:1]), 1, Params())
    assert (len(three.read), three.finish_reason, three.paid) == (1, "length", 2.0)
    full = len(asked(renderer)[0].ids) + 2 + len(renderer.following(ROWS[0].prompt, ["again, 1: 1"]))
    for context, read in ((full, 0), (full + 1, 1)):
        bounded = episodes(renderer, most=2, context=context)
        ((found,),) = bounded.play(Scripted(*rounds), asked(renderer, ROWS[:1]), 1, Params())
        assert (len(found.read), found.finish_reason) == (read, "length")


def test_ids_stay_as_they_were_sampled(renderer: Renderer, model: LanguageModel) -> None:
    """ "the" in three tokens, where the tokenizer knows one; and what the engine draws."""
    letters = [renderer.answer(letter)[0] for letter in " the"]
    assert renderer.answer(" the")[:-1] != letters
    engine = Scripted([[said(*letters, STOP)]], [[said(7, STOP)]], [[said(8, STOP)]])
    ((found,),) = episodes(renderer).play(engine, asked(renderer, ROWS[:1]), 1, Params())
    assert found.ids[: len(letters)] == tuple(letters) and found.said[0].content == " the"
    assert engine.prompts[2][0][: len(engine.prompts[1][0])] == engine.prompts[1][0]  # a prefix, turn by turn
    real = Engine(model, slots=4)
    params = Params(1.0, 1.0, 6, 3, renderer.stop_ids)
    groups = episodes(renderer).play(real, asked(renderer), 2, params)
    for prompt, sample in zip(asked(renderer), (group[1] for group in groups), strict=True):
        stream = pack([Tree(prompt.ids, (Answer(sample.ids, sample.weights),))], 1000, keep_last=False)[0]
        logps = values_of(model.logp(stream).logp_S).tolist()
        assert logps == pytest.approx([p for p, w in zip(sample.logprobs, sample.weights, strict=True) if w], abs=1e-4)


@st.composite
def conversations(draw: Any) -> Sample:
    ids, logprobs, read = [], [], []
    for turn in range(draw(st.integers(1, 4))):
        if turn:
            stretch = draw(st.lists(st.integers(0, 293), min_size=1, max_size=6))
            read.append((len(ids), len(ids) + len(stretch)))
            ids += stretch
            logprobs += [0.0] * len(stretch)
        answer = draw(st.lists(st.integers(0, 293), min_size=1, max_size=6))
        ids += answer
        logprobs += [-1.0 - i / 100 for i in answer]
    return Sample(tuple(ids), tuple(logprobs), "stop", None, tuple(read))


def by_turns(prompt: list[int], sample: Sample) -> list[Tree]:
    """Each answer of an episode as a row of its own, on the plain prefix before it."""
    borders = [0, *chain(*sample.read), len(sample.ids)]
    return [
        Tree([*prompt, *sample.ids[:start]], (Answer(sample.ids[start:stop], [1.0] * (stop - start)),))
        for start, stop in zip(borders[::2], borders[1::2], strict=True)
    ]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(group=st.lists(conversations(), min_size=2, max_size=3), noise=st.floats(-9, 9))
@pytest.mark.parametrize("name", ["grpo", "ppo", "gspo"])
def test_the_gradient_is_that_of_each_turn_on_its_prefix(
    model: LanguageModel, name: str, group: list[Sample], noise: float
) -> None:
    """And whatever stands at a token of the environment, it changes neither loss nor gradient by a bit."""
    prompt, parameters = [5, 6, 7], list(model.parameters().values())
    knobs = Rl(algorithm=name).knobs()
    terms = [t for t in ALGORITHMS[name].terms(knobs, 0.1, 20) if t.name in ("policy", "kl")]

    def lesson(trees: list[Tree]) -> list[Tree]:
        count = sum(int(answer.units) for tree in trees for answer in tree.answers)
        for figure, values in {"value": 0.1, "reference_logp": -1.5}.items():
            trees = with_stream(trees, figure, [values] * count)
        return ALGORITHMS[name].credit(knobs)(Graded(trees, [[float(g) for g in range(len(group))]]))

    def gradient(trees: list[Tree]) -> tuple[torch.Tensor, ...]:
        total = torch.zeros(())
        for stream in pack(trees, 4000, keep_last=False):
            outputs: Outputs = model.logp(stream)
            for term in terms:
                total = total + (term.weight or 1.0) * term.loss(outputs, stream).total
        return (total.detach(), *torch.autograd.grad(total, parameters))

    (tree,) = lesson(as_trees([prompt], [group]))
    found = gradient([tree])
    read = [n for answer in tree.answers for n, w in enumerate(answer.weights) if not w]
    loud = tuple(
        replace(a, streams={k: [v if w else noise for v, w in zip(vs, a.weights, strict=True)] for k, vs in s.items()})
        for a, s in ((answer, answer.streams) for answer in tree.answers)
    )
    assert all(torch.equal(a, b) for a, b in zip(found, gradient([replace(tree, answers=loud)]), strict=True)), read
    if name == "gspo":
        return  # one ratio for the whole episode: its turns cannot stand alone
    turned = []
    for answer, sample in zip(tree.answers, group, strict=True):
        for part in by_turns(prompt, sample):
            start = len(part.prompt) - len(prompt)
            stop = start + len(part.answers[0].ids)
            streams = {key: values[start:stop] for key, values in answer.streams.items()}
            turned.append(replace(part, answers=(replace(part.answers[0], streams=streams),)))
    for ours, theirs in zip(found, gradient(turned), strict=True):
        assert torch.allclose(ours, theirs, atol=2e-5, rtol=1e-4)


def measured(model: LanguageModel, group: list[Sample], rewards: list[float]) -> Measured:
    trees = with_reference(as_trees([[5, 6, 7]], [group]), model, 1.0)
    return Measured([group], Scores([rewards], {"environment": [rewards]}, [[0, 1]]), trees, [group])


EPISODE = Sample((40, 41, 9, 9, 9, 42), (-1.0, -2.0, 0.0, 0.0, 0.0, -3.0), "length", None, ((2, 5),))
ALONE = Sample((40, 43), (-1.0, -1.0), "stop")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_no_algorithm_trains_what_the_environment_said(model: LanguageModel, name: str) -> None:
    """Every token that was drawn has the credit of its algorithm, and every other one has nothing."""
    given = measured(model, [EPISODE, ALONE], [1.0, 0.0])
    if name == "ppo":
        given = replace(given, trees=with_stream(given.trees, "value", [0.1, 0.2, 0.3, 0.4, 0.5]))
    knobs = Rl(algorithm=name).knobs()
    (tree,), figures = Plan(ALGORITHMS[name].credit(knobs), critic=name == "ppo").lesson(given, 0.0)
    answer = next(answer for answer in tree.answers if answer.ids == EPISODE.ids)
    assert answer.weights == [1.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    assert figures["idle_share"] == pytest.approx(2 / 5 if name == "rejection" else 0.0)
    if name in ("online_dpo", "rejection"):
        return
    advantage = list(answer.streams["advantage"])
    assert advantage[2:5] == [0.0] * 3 and all(advantage[n] != 0.0 for n in (0, 1, 5))


def test_generalised_advantages_skip_what_was_read(model: LanguageModel) -> None:
    """The value of the first answer's end is that of the second one's beginning, whatever was read between them."""
    given = replace(
        (plain := measured(model, [EPISODE, ALONE], [2.0, 0.0])),
        trees=with_stream(plain.trees, "value", [0.1, 0.2, 0.3, 0.4, 0.5]),
    )
    (tree,), _ = Plan(ALGORITHMS["ppo"].credit(Knobs(gae_lambda=0.5)), critic=True).lesson(given, 0.0)
    advantage, returns = (tree.answers[0].streams[name] for name in ("advantage", "return"))
    assert [advantage[n] for n in (0, 1, 5)] == pytest.approx(gae.advantages([0, 0, 2.0], [0.1, 0.2, 0.3], 1.0, 0.5))
    assert advantage[5] == pytest.approx(1.7) and advantage[1] == pytest.approx(0.3 - 0.2 + 0.5 * 1.7)
    assert [returns[n] for n in (0, 1, 5)] == pytest.approx([0.1 + advantage[0], 0.2 + advantage[1], 2.0])
    dense = [[[0.5, 0.0, 7.0, 7.0, 7.0, 0.25], [0.0, 0.0]]]  # what a read token earned, nobody is paid
    assert Graded(given.trees, [[2.0, 0.0]], dense).per_token()[0] == [0.5, 0.0, 0.25 + 1.25]


def test_figures_count_what_the_policy_said(model: LanguageModel) -> None:
    figures = (found := measured(model, [EPISODE, ALONE], [1.0, 0.0])).figures()
    assert (figures["length"], figures["cut_share"]) == (2.5, 0.5)
    reference = [r for a in found.trees[0].answers for r in a.supervised(a.streams["reference_logp"])]
    assert len(reference) == 5
    assert figures["kl"] == pytest.approx((-1 - 2 - 3 - 1 - 1 - sum(reference)) / 5)


def test_the_learned_reward_judges_the_last_answer_in_its_conversation(model: LanguageModel) -> None:
    reward = RewardModel(model.frozen_copy(), torch.linspace(-1, 1, model.head.shape[1])[None])
    (whole,), (last,) = (
        score_answers(reward, [prompt], [[ids]])[0]
        for prompt, ids in (([5, 6], EPISODE.ids), ([5, 6, *EPISODE.ids[:5]], EPISODE.ids[5:]))
    )
    assert whole == pytest.approx(last, abs=1e-5)


def test_people_and_own_rewards_see_the_last_answer(renderer: Renderer) -> None:
    task = ChatTask(renderer, 8)
    ids = [*renderer.answer("Wait.")]
    sample = Sample((40, STOP, 10, *ids), (-1.0, -1.0, 0.0, *[-0.5] * len(ids)), "stop", None, ((2, 3),))
    sample = replace(sample, said=(Message("assistant", "x"), Message("user", "again")))
    reply = task.reply(ROWS[0], sample)
    assert (reply.answer, reply.tokens, reply.prompt) == ("Wait.", len(ids), (*ROWS[0].prompt, *sample.said))
    kept = task.exchange("p", "version-1", ROWS[0], [1, 2], sample, "rollout", {}, "id-1")
    assert (kept.prompt_ids, kept.answer_ids, kept.answer) == ((1, 2, 40, STOP, 10), tuple(ids), "Wait.")
    assert kept.logprobs == (-0.5,) * len(ids) and kept.prompt == reply.prompt


def test_a_rollout_of_episodes_is_replayed_whole(model: LanguageModel, renderer: Renderer) -> None:
    """The same bits again; episodes of a group begin alike, and no two prompts' do."""
    started: list[tuple[int, int]] = []

    def start(row: Row, seed: int) -> Asking:
        started.append((row.number, seed))
        return Asking(row, seed)

    def score(asked: Any, samples: Sequence[Sequence[Sample]], *_: Any) -> Scores:
        rewards = [[float(len(set(sample.drawn))) for sample in group] for group in samples]
        return Scores(rewards, {"environment": rewards}, [list(range(len(group))) for group in rewards])

    def rollouts() -> Rollouts:
        return Rollouts(
            sampler=lambda: Engine(model, slots=8),
            reference=model.frozen_copy(),
            score=score,
            plan=Plan(ALGORITHMS["grpo"].credit(Knobs())),
            keep=lambda step, chosen, groups: [],
            prompts=asked(renderer),
            prompts_per_rollout=2,
            group=2,
            params=Params(1.0, 1.0, 5, 0, renderer.stop_ids),
            seed=11,
            episodes=episodes(renderer, start),
        )

    first, again = rollouts(), rollouts()
    first.window(0)
    assert first.figures()["turns"] == 3.0
    known = [list(started)]
    assert len(set(started)) == 2 and started[0] == started[1]
    expected = [first.window(2), first.window(3)]
    assert [again.window(2), again.window(3)] == expected and known[0] != started[4:8]
    assert started[4:8] == started[8:12]


class Raises(Asking):
    def reply(self, answer: str) -> str | None:
        raise KeyError("nothing")


def returning(**methods: Any) -> Any:
    return lambda row, seed: type("Odd", (Asking,), {k: lambda self, *a, v=v: v for k, v in methods.items()})(row, seed)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (Raises, '"game:start" raised on row 1 KeyError'),
        (lambda row, seed: 1 / 0, '"game:start" raised on row 1 ZeroDivisionError'),
        (lambda row, seed: "text", "it returned 'text' on row 1, which has no reply()"),
        (returning(reply=5), 'contract "a text or None": reply() returned 5 on row 1'),
        (returning(reply="  "), "reply() returned '  ' on row 1"),
        (returning(reply=None, reward=float("nan")), "reward() returned nan on row 1, not a finite number"),
        (returning(reply=None, reward="1"), "reward() returned '1' on row 1"),
    ],
)
def test_an_environment_that_breaks_is_one_message_with_the_row(
    renderer: Renderer, function: Any, message: str
) -> None:
    with pytest.raises(PartError) as caught:
        engine = Scripted(*[[[said(40, STOP)]] for _ in range(4)])
        episodes(renderer, function).play(engine, asked(renderer, ROWS[:1]), 1, Params())
    assert message in str(caught.value)


def test_a_template_that_rewrites_earlier_turns_is_refused(tiny_model_folder: Path) -> None:
    plain = Renderer.from_folder(tiny_model_folder, None)
    template = plain.template.replace("message['content'] +", "(message['content'] if loop.last else 'x') +")
    rewriting = Renderer(plain.tokenizer_file, template, plain.tokens, None, plain.stop_ids)
    with pytest.raises(DataError, match="renders earlier turns otherwise"):
        rewriting.following(ROWS[0].prompt, ["again"])
