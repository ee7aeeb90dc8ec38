"""Questions to an OpenAI-compatible endpoint, asked again after a while where the same one may be answered later."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import httpx

from burnish.records import Json

T = TypeVar("T")
WAIT = 1.0  # seconds before the second attempt, twice as long before each further one
AGAIN = (408, 409, 425, 429)  # and everything from 500 up


class Refused(Exception):
    """The endpoint refuses the question itself: asking again is of no use."""


class Unanswered(Exception):
    """There was no usable answer; says why of the last one."""


def client_of(key: str | None, timeout: float) -> httpx.Client:
    """A client that sends ``key`` as a bearer token, where there is one; ``timeout`` in seconds."""
    return httpx.Client(timeout=timeout, headers={"Authorization": f"Bearer {key}"} if key else {})


def ask(
    client: httpx.Client,
    url: str,
    body: Mapping[str, Json],
    who: str,
    read: Callable[[httpx.Response], T],
    attempts: int,
    wait: float,
) -> T:
    """What ``read`` makes of the answer to ``body``; it raises `Unanswered` where the answer is of no use.

    Args:
        who: Whom messages name.
        wait: Seconds before the second attempt.

    Raises:
        Refused: The status is neither 200 nor one that may pass.
        Unanswered: After so many ``attempts`` there was no usable answer.
    """
    why = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(wait * 2 ** (attempt - 1))
        try:
            response = client.post(url, json=body)
        except httpx.HTTPError as error:
            why = f"cannot be reached: {type(error).__name__}"
            continue
        if response.status_code >= 500 or response.status_code in AGAIN:
            why = f"answered {response.status_code}"
            continue
        if response.status_code != 200:
            raise Refused(f"{who} answered {response.status_code}: {response.text[:200]!r}")
        try:
            return read(response)
        except Unanswered as error:
            why = str(error)
    raise Unanswered(f"{who} {why} ({attempts} attempts)")
