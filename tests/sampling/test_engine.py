"""The engine gives what one plain forward at a time gives, whatever shares its steps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from burnish.errors import SamplingError
from burnish.sampling import (
    MISMATCH_LIMIT,
    Engine,
    Event,
    NonFiniteLogits,
    Params,
    Request,
    Sample,
    Sampler,
    Stop,
    Weights,
    mismatch,
    sample,
)
from sampling.conftest import VOCABULARY, Build

pytestmark = pytest.mark.usefixtures("compiled")
GREEDY = Params(temperature=0, max_new_tokens=12)


def generate(model: PreTrainedModel, prompt: Sequence[int], new: int) -> list[int]:
    ids = torch.tensor([list(prompt)])
    ids = model.generate(ids, attention_mask=ids.new_ones(ids.shape), max_new_tokens=new, do_sample=False)
    return ids[0, len(prompt) :].tolist()


def plain_logp(model: PreTrainedModel, prompt: Sequence[int], answer: Sequence[int], temperature: float) -> list[float]:
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].double()
    logp = (logits / temperature).log_softmax(-1)
    return logp.gather(1, torch.tensor(list(answer))[:, None])[:, 0].tolist()


def drain(engine: Engine) -> dict[int, list[Event]]:
    events: dict[int, list[Event]] = {}
    while not engine.idle:
        for event in engine.step():
            events.setdefault(event.request_id, []).append(event)
    return events


def ids_of(groups: list[list[Sample]]) -> list[list[tuple[int, ...]]]:
    return [[s.ids for s in group] for group in groups]


class TokenCount:
    """How many tokens the model has run."""

    def __init__(self, engine: Engine) -> None:
        self.tokens = 0
        engine._module.get_input_embeddings().register_forward_hook(self._count)

    def _count(self, module: object, inputs: tuple[torch.Tensor], output: object) -> None:
        self.tokens += inputs[0].numel()

    def since(self) -> int:
        tokens, self.tokens = self.tokens, 0
        return tokens


@pytest.mark.parametrize("weights", ["exact", "plain"])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral"])
def test_greedy_is_generate(kind: str, weights: Weights, build: Build, prompts: list[list[int]]) -> None:
    plain = build(kind)
    made = Engine(build(kind), slots=4, prefill=16, weights=weights).sample(prompts, 2, GREEDY)
    for prompt, group in zip(prompts, made, strict=True):
        assert [list(s.ids) for s in group] == [generate(plain, prompt, 12)] * 2


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "mistral"])
def test_logprobs_are_those_of_a_plain_forward(
    kind: str, temperature: float, build: Build, prompts: list[list[int]]
) -> None:
    plain = build(kind)
    params = Params(temperature=temperature, max_new_tokens=15, seed=2)
    made = Engine(build(kind), slots=5, prefill=16).sample(prompts, 3, params)
    for prompt, group in zip(prompts, made, strict=True):
        for one in group:
            assert one.logprobs == pytest.approx(plain_logp(plain, prompt, one.ids, temperature), abs=1e-5)


def test_sampler_and_plain_forward_agree_over_two_thousand_tokens(
    build: Build, plain: PreTrainedModel, prompts: list[list[int]]
) -> None:
    made = sample(build(), prompts, 9, Params(temperature=0.9, max_new_tokens=40), slots=16)
    sampled = [x for group in made for s in group for x in s.logprobs]
    trained = [
        x
        for prompt, group in zip(prompts, made, strict=True)
        for s in group
        for x in plain_logp(plain, prompt, s.ids, 0.9)
    ]
    assert len(sampled) >= 2000
    assert mismatch(sampled, trained) < 1.0001 < MISMATCH_LIMIT


def test_answers_follow_the_model(build: Build, plain: PreTrainedModel) -> None:
    with torch.no_grad():
        probabilities = plain(torch.tensor([[5, 9, 2]])).logits[0, -1].double().softmax(0)
    made = sample(build(), [[5, 9, 2]], 2000, Params(max_new_tokens=1), slots=64)
    counts = torch.bincount(torch.tensor([s.ids[0] for s in made[0]]), minlength=VOCABULARY).double()
    often = probabilities * 2000 >= 5
    seen = torch.cat([counts[often], counts[~often].sum()[None]])
    wanted = torch.cat([probabilities[often], probabilities[~often].sum()[None]]) * 2000
    statistic = float(((seen - wanted) ** 2 / wanted).sum())
    freedom = len(wanted) - 1
    assert freedom >= 5
    assert statistic < freedom + 4 * math.sqrt(2 * freedom)


def test_a_group_is_not_one_answer_repeated(build: Build) -> None:
    made = sample(build(), [[5, 9, 2], [5, 9, 2]], 8, Params(max_new_tokens=10))
    assert len({s.ids for group in made for s in group}) == 16


def test_the_seed_decides_and_not_the_company(build: Build, prompts: list[list[int]]) -> None:
    params = Params(max_new_tokens=14, seed=7)
    first = ids_of(Engine(build(), slots=64).sample(prompts, 3, params))
    for slots, prefill in ((1, 256), (2, 5), (7, 16)):
        assert ids_of(Engine(build(), slots=slots, prefill=prefill).sample(prompts, 3, params)) == first
    assert ids_of(Engine(build()).sample(prompts, 3, replace(params, seed=8))) != first

    engine = Engine(build(), slots=5)
    places = [(i, j) for i in range(len(prompts)) for j in range(3)]
    owners = {engine.submit(Request(prompts[i], params, (i, j))): (i, j) for i, j in reversed(places)}
    for request_id, events in drain(engine).items():
        i, j = owners[request_id]
        assert tuple(e.token_id for e in events) == first[i][j]


def test_requests_join_while_others_decode(build: Build, plain: PreTrainedModel, prompts: list[list[int]]) -> None:
    engine = Engine(build(), slots=4, prefill=6)
    wanted: dict[int, list[int]] = {}
    got: dict[int, list[int]] = {}
    todo = list(enumerate([*prompts, *prompts]))
    for beat in itertools.count():
        if beat % 3 == 0 and todo:
            number, prompt = todo.pop()
            new = 3 + number
            wanted[engine.submit(Request(prompt, replace(GREEDY, max_new_tokens=new)))] = generate(plain, prompt, new)
        for event in engine.step():
            got.setdefault(event.request_id, []).append(event.token_id)
        if engine.idle and not todo:
            break
    assert got == wanted


def test_a_stop_token_ends_the_answer_and_is_part_of_it(
    build: Build, plain: PreTrainedModel, prompts: list[list[int]]
) -> None:
    for prompt in prompts:
        whole = generate(plain, prompt, 12)
        cut = whole.index(whole[4]) + 1
        stopped = sample(build(), [prompt], 1, replace(GREEDY, stop_ids=(200, whole[4])))[0][0]
        assert (list(stopped.ids), stopped.finish_reason) == (whole[:cut], "stop")
        assert len(stopped.logprobs) == cut
        endless = sample(build(), [prompt], 1, GREEDY)[0][0]
        assert (list(endless.ids), endless.finish_reason) == (whole, "length")


def test_a_stop_string_ends_the_answer_and_its_ids_stay(build: Build, plain: PreTrainedModel) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"

    def text(ids: Sequence[int]) -> str:
        return "".join(letters[i % 26] + letters[i // 26] for i in ids)  # two characters a token

    whole = generate(plain, [5, 9, 2], 12)
    said = text(whole)
    crossing = said[5:8]  # from the second half of the third token to the first of the fourth and beyond
    first = said.index(crossing)
    stop = Stop(("never said", crossing), text)
    made = Engine(build(), slots=2).sample([[5, 9, 2]], 2, replace(GREEDY, stop=stop))[0]
    for one in made:
        assert (one.finish_reason, one.stopped_by) == ("stop", crossing)
        assert list(one.ids) == whole[: -(-(first + 3) // 2)]
        assert len(one.logprobs) == len(one.ids)
        assert stop.cut(one.ids) == said[:first]
    plain_stop = Engine(build()).sample([[5, 9, 2]], 1, replace(GREEDY, stop_ids=(whole[1],), stop=stop))[0][0]
    assert plain_stop.stopped_by is None


def test_cancelling_frees_the_slot_and_disturbs_nobody(
    build: Build, plain: PreTrainedModel, prompts: list[list[int]]
) -> None:
    engine = Engine(build(), slots=3, prefill=8)
    ids = [engine.submit(Request(p, GREEDY)) for p in prompts]
    got: dict[int, list[int]] = {}
    for beat in range(6):
        for event in engine.step():
            got.setdefault(event.request_id, []).append(event.token_id)
        if beat == 3:
            assert engine.active == 3
            assert engine.cancel(ids[0])
            assert engine.active == 2
            assert engine.cancel(ids[5])  # still waiting
    assert not engine.cancel(ids[0])
    for request_id, events in drain(engine).items():
        got.setdefault(request_id, []).extend(e.token_id for e in events)
    for number in (1, 2, 3, 4):
        assert got[ids[number]] == generate(plain, prompts[number], 12)
    assert len(got[ids[0]]) < 12
    assert ids[5] not in got
    assert engine.idle
    assert engine.active == 0


def test_a_prompt_runs_once_for_all_its_answers(build: Build, prompts: list[list[int]]) -> None:
    engine = Engine(build(), slots=16)
    count = TokenCount(engine)
    engine.sample([prompts[2]], 8, Params(max_new_tokens=1))
    # the other seven run its last token only
    assert count.since() == 40 + 7


def test_prompts_share_their_beginning_and_a_conversation_its_past(
    build: Build, plain: PreTrainedModel, prompts: list[list[int]]
) -> None:
    engine = Engine(build(), slots=16)
    count = TokenCount(engine)
    engine.sample(prompts[2:5], 1, Params(max_new_tokens=1))
    assert count.since() == 40 + 9 + 3  # 12 of the second and third are the first's

    engine = Engine(build(), slots=16)
    count = TokenCount(engine)
    answer = engine.sample([prompts[2]], 1, GREEDY)[0][0].ids
    count.since()
    turn = [*prompts[2], *answer, 8, 9, 10]
    again = engine.sample([turn], 1, GREEDY)[0][0].ids
    # the last token drawn was never run; then 3 new ones, then 11 decoded
    assert count.since() == 1 + 3 + 11
    assert list(again) == generate(plain, turn, 12)


def test_what_a_slot_held_before_does_not_show(build: Build, plain: PreTrainedModel, prompts: list[list[int]]) -> None:
    engine = Engine(build(), slots=3, prefill=16)
    for shift in range(6):
        turned = [[(t + shift) % VOCABULARY for t in p] for p in prompts[shift:] + prompts[:shift]]
        made = engine.sample(turned, 1, replace(GREEDY, max_new_tokens=4 + shift))
        assert [list(g[0].ids) for g in made] == [generate(plain, p, 4 + shift) for p in turned]


def test_a_slot_taken_over_is_no_source_of_its_former_prompt(
    build: Build, plain: PreTrainedModel, prompts: list[list[int]]
) -> None:
    engine = Engine(build(), slots=3)
    engine.sample([prompts[2]], 1, GREEDY)
    other = engine.submit(Request(prompts[5], GREEDY))
    first = engine.step()
    again = engine.submit(Request(prompts[2], GREEDY))
    got = drain(engine)
    assert [e.token_id for e in first + got[other]] == generate(plain, prompts[5], 12)
    assert [e.token_id for e in got[again]] == generate(plain, prompts[2], 12)


def test_memory_is_bounded_by_slots_and_length(build: Build, prompts: list[list[int]]) -> None:
    engine = Engine(build(), slots=4)
    engine.sample(prompts, 3, Params(max_new_tokens=10))
    settled = engine._cache.nbytes
    # 4 slots of 64 tokens: keys and values of 2 layers, 2 heads of 16 floats
    assert settled == 4 * 64 * 2 * 2 * 2 * 16 * 4
    for seed in range(5):
        engine.sample(prompts, 3, Params(max_new_tokens=10, seed=seed))
    assert engine._cache.nbytes == settled
    assert len(engine._left) <= 4
    assert engine.idle


def test_an_answer_that_exceeds_the_context_ends_there(build: Build, plain: PreTrainedModel) -> None:
    prompt = list(range(90))
    whole = sample(build(), [prompt], 1, replace(GREEDY, max_new_tokens=1000))[0][0]
    assert (len(whole.ids), whole.finish_reason) == (70, "length")
    assert list(whole.ids) == generate(plain, prompt, 70)
    short = Engine(build(), max_length=100).sample([prompt], 1, replace(GREEDY, max_new_tokens=1000))[0][0]
    assert short.ids == whole.ids[:10]


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ([], "empty"),
        ([1] * 160, "160 tokens; the context of 160"),
        ([3, VOCABULARY], "vocabulary"),
        ([-1], "vocabulary"),
    ],
)
def test_a_prompt_that_cannot_be_answered_is_refused(prompt: list[int], says: str, build: Build) -> None:
    engine = Engine(build())
    with pytest.raises(SamplingError, match=says):
        engine.submit(Request(prompt, GREEDY))
    assert engine.idle


def test_a_failed_sample_leaves_the_engine_idle(build: Build, prompts: list[list[int]]) -> None:
    engine = Engine(build())
    with pytest.raises(SamplingError, match="empty"):
        engine.sample([prompts[0], []], 1, GREEDY)
    assert engine.idle
    engine.submit(Request(prompts[0], GREEDY))
    with pytest.raises(SamplingError, match="other requests"):
        engine.sample(prompts, 1, GREEDY)


@pytest.mark.parametrize("cancelled", [False, True], ids=["answered", "cancelled"])
def test_numbers_that_are_not_finite_stop_their_request_only(cancelled: bool, build: Build) -> None:
    plain, model = build(), build()
    with torch.no_grad():
        model.get_input_embeddings().weight[13] = math.nan
    engine = Engine(model, slots=3, prefill=60)
    prompt = list(range(20, 50))
    good = engine.submit(Request(prompt, GREEDY))
    bad = engine.submit(Request([13] * (70 if cancelled else 20), GREEDY))
    got: list[Event] = []
    if cancelled:
        got += engine.step()
        assert engine.cancel(bad)
    else:
        with pytest.raises(NonFiniteLogits, match=f"request {bad}") as caught:
            engine.step()
        assert caught.value.requests == (bad,)
    # the next one takes the slot that held the broken numbers; the other row is longer, so they are under its mask
    later = engine.submit(Request([7, 8], GREEDY))
    for events in drain(engine).values():
        got += events
    answers = {i: [e.token_id for e in got if e.request_id == i] for i in (good, later)}
    assert answers == {good: generate(plain, prompt, 12), later: generate(plain, [7, 8], 12)}


def test_a_step_that_fails_forgets_what_the_slots_hold(
    build: Build, plain: PreTrainedModel, prompts: list[list[int]]
) -> None:
    engine = Engine(build(), slots=3, prefill=16, weights="plain")
    interrupt = engine._module.model.layers[1].register_forward_pre_hook(_raise)
    engine.submit(Request(prompts[2], GREEDY))
    with pytest.raises(KeyboardInterrupt):
        engine.step()
    interrupt.remove()
    assert engine.idle
    assert list(engine.sample([prompts[2]], 1, GREEDY)[0][0].ids) == generate(plain, prompts[2], 12)


def _raise(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_sliding_window_bounds_the_length(build: Build) -> None:
    engine = Engine(build("mistral", sliding_window=48))
    assert engine.max_length == 48
    with pytest.raises(SamplingError, match="context of 48"):
        engine.submit(Request([1] * 48, GREEDY))
    made = engine.sample([[5, 9, 2]], 1, replace(GREEDY, max_new_tokens=100))[0][0]
    assert list(made.ids) == generate(build("mistral", sliding_window=None), [5, 9, 2], 45)


def test_positions_that_depend_on_the_longest_request_are_refused(build: Build) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    with pytest.raises(SamplingError, match="dynamic"):
        Engine(build(rope_parameters=rope))


def test_a_layer_that_does_not_ask_the_engine_is_refused(build: Build) -> None:
    model = build()
    model.model.layers[1].self_attn.forward = lambda hidden_states, **_: (hidden_states, None)
    with pytest.raises(SamplingError, match="1 of the model's 2 layers"):
        Engine(model, weights="plain")


def test_equal_prompts_are_run_once_wherever_they_stand(build: Build) -> None:
    one, other = [7, 30, 12, 5, 9], [8, 44, 2, 6, 1]
    engine, run = Engine(build(), slots=1), []
    forward = engine._forward
    engine._forward = lambda plan, last: run.append(len(plan.ids)) or forward(plan, last)
    made = engine.sample([one, other, one, other], 1, Params(max_new_tokens=1))
    assert run == [5, 1, 5, 1]  # of the second one only the last token, for its logits
    alone = Engine(build(), slots=1).sample([one, other], 1, Params(max_new_tokens=1))
    assert [made[0], made[1]] == alone


def test_the_engine_is_a_sampler(build: Build, prompts: list[list[int]]) -> None:
    sampler: Sampler = Engine(build())
    said: list[tuple[int, int]] = []

    class Ear:
        def say(self, line: str) -> None: ...

        def update(self, what: str, done: int, total: int, note: str = "") -> None:
            said.append((done, total))

    made = sampler.sample(prompts, 2, GREEDY, Ear())
    assert [len(group) for group in made] == [2] * 6
    assert said[-1] == (12, 12)
    assert sampler.sample([], 2, GREEDY) == []
