"""A sampler behind an OpenAI-compatible completions endpoint that returns token ids and their logprobs, as vLLM does.

Training needs the ids that were sampled: text that is tokenised again has other ids, and logprobs that belong to
nothing. So the prompt is sent as ids, ``return_token_ids`` is asked for, and a server that returns none, or read other
prompt ids than it was sent, is refused; it may still judge and evaluate.

vLLM's logprobs are of temperature 1 by default, whatever the answers were drawn with. Where a server runs with
``--logprobs-mode processed_logprobs``, say ``tempered``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import httpx

from burnish.errors import SamplingError
from burnish.progress import Progress, Silent
from burnish.records import FinishReason, Json
from burnish.sampling.endpoint import WAIT, Refused, Unanswered, ask, client_of
from burnish.sampling.request import Params, Sample

ATTEMPTS = 5
AT_ONCE = 8  # prompts in flight; the server batches them and runs a prompt's answers together
# A model's generation_config would else be the server's default; -1 and 0 keep every token.
NEUTRAL: Mapping[str, Json] = {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}


@dataclass(frozen=True)
class RemoteSampler:
    """Answers of the model that a server calls ``model``.

    Args:
        url: Base URL of the server, as "http://host:8000/v1".
        key: Sent as a bearer token where it is given.
        tempered: The server's logprobs are of the tempered distribution; else the temperature must be 1.
        wait: Seconds before the second of ``ATTEMPTS`` attempts.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    tempered: bool = False
    timeout: float = 600.0
    wait: float = WAIT

    def sample(
        self, prompts: Sequence[Sequence[int]], n: int, params: Params, progress: Progress | None = None
    ) -> list[list[Sample]]:
        """``n`` samples for each prompt, in the order of the prompts. A prompt's seed is drawn from (seed, its place).

        Raises:
            SamplingError: The server cannot be reached or refuses; its answers have no ids, no logprobs, more or
                fewer of one than of the other, or belong to another prompt; the temperature is not 1 and the server's
                logprobs are not ``tempered``.
        """
        if params.temperature not in (0, 1) and not self.tempered:
            raise SamplingError(
                f"the logprobs of {self.url} are of temperature 1, the answers of {params.temperature}",
                mend="run the server with --logprobs-mode processed_logprobs and say tempered=True, or sample at 1",
            )
        progress = progress or Silent()
        with client_of(self.key, self.timeout) as client, ThreadPoolExecutor(AT_ONCE) as pool:
            asked = [
                pool.submit(self._group, client, list(prompt), n, params, place) for place, prompt in enumerate(prompts)
            ]
            try:
                for done, future in enumerate(as_completed(asked), 1):
                    future.result()
                    progress.update("sampling", done * n, len(asked) * n)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [future.result() for future in asked]

    def _group(self, client: httpx.Client, prompt: list[int], n: int, params: Params, place: int) -> list[Sample]:
        body = self._post(client, _body(self.model, prompt, n, params, place))
        choices = body.get("choices")
        if not isinstance(choices, list) or len(choices) != n:
            found = len(choices) if isinstance(choices, list) else "no"
            raise SamplingError(f"{self.url} returned {found} answers to a prompt, not {n}")
        choices = sorted(choices, key=lambda choice: int(choice.get("index", 0)))
        return [self._sample(choice, body, prompt, params) for choice in choices]

    def _post(self, client: httpx.Client, body: Mapping[str, Json]) -> dict[str, Any]:
        try:
            return ask(client, f"{self.url.rstrip('/')}/completions", body, self.url, _object, ATTEMPTS, self.wait)
        except Unanswered as error:
            raise SamplingError(str(error), mend="see that the server runs, and run again") from error
        except Refused as error:
            raise SamplingError(str(error)) from error

    def _sample(self, choice: Mapping[str, Any], body: Mapping[str, Any], prompt: list[int], params: Params) -> Sample:
        ids, logprobs = choice.get("token_ids"), (choice.get("logprobs") or {}).get("token_logprobs")
        if not ids:
            raise SamplingError(
                f"{self.url} returned no token ids, and text that is tokenised again is not what was sampled",
                mend="train with a server that knows return_token_ids (vLLM 0.10.2 or later), or with the local engine",
            )
        read = choice.get("prompt_token_ids", body.get("prompt_token_ids"))
        if read is not None and list(read) != prompt:
            raise SamplingError(
                f"{self.url} read a prompt of {len(read)} ids, not the {len(prompt)} that it was sent",
                mend="let the server take ids as they are: it must not add a BOS token or tokenise again",
            )
        if not logprobs or len(logprobs) != len(ids):
            raise SamplingError(f"{self.url} returned {len(logprobs or ())} logprobs for {len(ids)} token ids")
        if not all(isinstance(logprob, int | float) and math.isfinite(logprob) for logprob in logprobs):
            raise SamplingError(f"{self.url} returned a logprob that is no finite number")
        reason, stopped_by = self._end(choice, ids, params)
        return Sample(tuple(ids), tuple(map(float, logprobs)), reason, stopped_by)

    def _end(self, choice: Mapping[str, Any], ids: Sequence[int], params: Params) -> tuple[FinishReason, str | None]:
        reason = choice.get("finish_reason")
        if reason == "length":
            return "length", None
        if reason != "stop":
            raise SamplingError(f"{self.url} ended an answer with {reason!r}, which is neither stop nor length")
        if ids[-1] in params.stop_ids:
            return "stop", None
        stopped_by = params.stop and params.stop.found(ids)
        if not stopped_by:
            raise SamplingError(
                f"{self.url} stopped after the token {ids[-1]}, which is none of the stop tokens {params.stop_ids}",
                mend="the server's model has other stop tokens than the one that is trained, or leaves them out",
            )
        return "stop", stopped_by


def _body(model: str, prompt: list[int], n: int, params: Params, place: int) -> dict[str, Json]:
    seed = int.from_bytes(hashlib.sha256(f"{params.seed}/{place}".encode()).digest()[:4], "big") >> 1
    body: dict[str, Json] = {
        "model": model,
        "prompt": list(prompt),
        "n": n,
        "max_tokens": params.max_new_tokens,
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k or -1,
        "min_p": params.min_p,
        "seed": seed,
        "stop_token_ids": list(params.stop_ids),
        "logprobs": 0,
        "return_token_ids": True,
        "skip_special_tokens": False,
    }
    return body | dict(NEUTRAL) | ({"stop": list(params.stop.strings)} if params.stop else {})


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Unanswered("answered with what is not a JSON object")
    return found
