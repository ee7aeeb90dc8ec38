"""An answer in pieces that a reward can be paid for: clauses, sentences, or the whole of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from burnish.records import Mark, Segment

Characters = tuple[int, int]  # from the first to before the second

SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]|\n")
CLAUSE_END = re.compile(r"[,;:!?—][\"'”’)\]]*(?=\s)")
FEWEST_WORDS = 5  # of a clause: what Wu et al. 2023 (arXiv:2306.01693) join to its neighbour below


def segments(text: str, size: Segment) -> list[Characters]:
    """The places of an answer's segments in order, without the white space around them; all of its words lie in one.

    A sentence ends with ``.``, ``!``, ``?`` or their like before white space, or with a line; a clause also with
    ``,``, ``;``, ``:`` or a dash, where it has five words: a shorter one belongs to the next, and the last of a
    sentence to the one before. "answer" is the whole text, even where it is empty.
    """
    if size == "answer":
        return [(0, len(text))]
    sentences = _cut(text, (0, len(text)), SENTENCE_END)
    if size == "sentence":
        return sentences
    return [clause for sentence in sentences for clause in _clauses(text, sentence)]


def ends(places: Sequence[Characters], offsets: Sequence[Characters], size: Segment) -> list[int | None]:
    """The token that each segment ends with: the last one that stands for a character of it, None where none does.

    ``offsets`` are the characters that each token stands for. An answer ends with its last token: the stop token, where
    it has one.
    """
    if size == "answer":
        return [len(offsets) - 1]
    inside = [[token for token, (a, b) in enumerate(offsets) if a < stop and start < b] for start, stop in places]
    return [tokens[-1] if tokens else None for tokens in inside]


def wrong(places: Sequence[Characters], marks: Sequence[Mark], kind: str) -> list[bool]:
    """Whether a mark of this kind shares a character with each segment; the whole of an answer is wrong with any."""
    own = [mark for mark in marks if mark.kind == kind]
    return [any(mark.start < stop and start < mark.stop for mark in own) for start, stop in places]


def _clauses(text: str, sentence: Characters) -> list[Characters]:
    done: list[Characters] = []
    short: int | None = None  # where a clause began that was too short to stand alone
    for start, stop in _cut(text, sentence, CLAUSE_END):
        begin = start if short is None else short
        short = begin if len(text[begin:stop].split()) < FEWEST_WORDS else None
        if short is None:
            done.append((begin, stop))
    if short is not None:
        done = [*done[:-1], (done[-1][0], sentence[1])] if done else [sentence]
    return done


def _cut(text: str, within: Characters, end: re.Pattern[str]) -> list[Characters]:
    """The pieces between the ends, trimmed; empty ones are left out."""
    cuts = [found.end() for found in end.finditer(text, *within)]
    borders = [within[0], *cuts, within[1]]
    found = []
    for start, stop in pairwise(borders):
        piece = text[start:stop]
        if piece.strip():
            found.append((start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())))
    return found
