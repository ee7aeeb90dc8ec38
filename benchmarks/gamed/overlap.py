"""A rule that looks sensible and can be gamed: an answer is on the subject where it repeats the customer's words."""

from __future__ import annotations

import re

from burnish.records import Reply

WORD = re.compile(r"[a-z']+")


def overlap(reply: Reply) -> float:
    """The share of the message's different words that the answer holds."""
    asked = set(WORD.findall(reply.prompt[-1].content.lower()))
    return len(asked & set(WORD.findall(reply.answer.lower()))) / len(asked) if asked else 0.0
