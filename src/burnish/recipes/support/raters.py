"""Simulated raters of the support desk: a stated rule on the text alone, and people-like noise around it.

The rule looks at the customer's message and at the answer, never at the model. Each rater weighs its parts a
little differently, leans to the left side, likes longer or shorter answers a little, calls close ones a tie
and now and then presses the wrong key. The word lists are in ``words.toml``.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from burnish.feedback import Reply
from burnish.records import Mark

_LISTS = tomllib.loads(files(__package__).joinpath("words.toml").read_text(encoding="utf-8"))
THINGS = frozenset(" ".join(_LISTS["things"].values()).split())
GENERAL, VERBS, AMBIGUOUS, OBJECTS, FUNCTION_WORDS = (
    frozenset(_LISTS["rule"][name].split()) for name in ("general", "verbs", "ambiguous", "objects", "function_words")
)

PARTS = ("names", "step", "offer", "length", "cut", "repeats", "invents")
CRITERIA = {"solves it": ("names", "step", "invents"), "house style": ("offer", "length", "cut", "repeats")}
SHORTEST, LONGEST = 20, 36
COPIED_SHARE = 0.6

Side = Literal["left", "right", "tie"]

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+")
_COMPLETE = re.compile(r"[.!?…][\"'”’)\]]*$")
_LINK = re.compile(r"https?://\S+|www\.\S+|\S+@\S+|\b[\w-]+\.(?:com|net|org|io|co|uk|de|eu|shop|info|example)\b", re.I)
_OFFER = re.compile(
    r"\blet (?:me|us) know\b|\b(?:happy|glad|pleased) to\b|\bgladly\b|\bhappily\b"
    r"|\bif you(?:'d| would)? (?:like|wish)\b|\b(?:i|we) (?:can|could)\b(?! not\b|'t)|\bhere to help\b",
    re.I,
)
_LEAD = re.compile(
    r"(?:(?:please|kindly|first|then|next|now|just|simply|also|so|but|and|otherwise|meanwhile|instead|afterwards|finally"
    r"|carefully|gently|always|try to|you (?:can|could|should|might|need to|have to|must)"
    r"|(?:could|can|would|will) you)\s+)*",
    re.I,
)
_CLAUSE = re.compile(r"(?:^|[.!?…;:—–(]\s*|\bplease\s+|,\s+(?:so|but|then|otherwise|just|and please)\s+)", re.I)
_OPENER = re.compile(
    r"^(?:at|if|when|once|after|before|as|to|for|in|on|with|should|while|yes|no|sorry|until|since|where|whenever)\b[^,;:.!?]*,\s+",
    re.I,
)


def parts(question: str, answer: str, finished: bool = True) -> dict[str, float]:
    """What each part of the rule adds to the utility of an answer.

    Returns:
        ``names`` 1 or 0: names a thing that the question is about. ``step`` 1 or 0: holds one concrete step.
        ``offer`` 0.7 or 0: closes with an offer or a question. ``length``: -0.04 a word outside 20 to 36.
        ``cut`` -1 or 0: cut off, or without end punctuation. ``repeats`` -1 or 0: a 4-gram twice, or 60 % of
        the question's words in their order. ``invents`` -1 or 0: a number, link or e-mail address that the
        question does not hold.
    """
    return dict(_parts(question, answer, finished))


def utility(question: str, answer: str, finished: bool = True) -> float:
    """The sum of all parts of the rule: at most 2.7."""
    return sum(parts(question, answer, finished).values())


@lru_cache(maxsize=1024)  # a panel reads the same answers again and again
def _parts(question: str, answer: str, finished: bool) -> Mapping[str, float]:
    count = len(words(answer))
    outside = max(SHORTEST - count, count - LONGEST, 0)
    return {
        "names": 1.0 if names_the_thing(question, answer) else 0.0,
        "step": 1.0 if has_step(answer) else 0.0,
        "offer": 0.7 if closes_with_offer(answer) else 0.0,
        "length": -0.04 * outside if outside else 0.0,
        "cut": 0.0 if finished and _COMPLETE.search(answer.strip()) else -1.0,
        "repeats": -1.0 if repeats(answer) or copies(question, answer) else 0.0,
        "invents": -1.0 if invents(question, answer) else 0.0,
    }


def words(text: str) -> list[str]:
    """Words in lower case; what hangs together by an apostrophe or a hyphen is one word."""
    return [word.lower().replace("’", "'") for word in _WORD.findall(text)]


def things(question: str) -> set[str]:
    """The things that the question is about, in the singular.

    Words that nearly every message holds (order, e-mail, money ...) count only where nothing more specific is
    named; a question without any word of the lexicon is about its longest content word.
    """
    found = {word for word in _nouns(question) if word in THINGS}
    found = found - GENERAL or found
    if found:
        return found
    content = [word for word in words(question) if word not in FUNCTION_WORDS]
    return {_singular(max(content, key=len))} if content else set()


def names_the_thing(question: str, answer: str) -> bool:
    """Whether the answer names one of the question's things."""
    return not things(question).isdisjoint(_nouns(answer))


def has_step(answer: str) -> bool:
    """Whether a sentence or clause starts with an imperative, after an optional please, then, you can ..."""
    return any(_is_imperative(start) for start in _clause_starts(answer))


def closes_with_offer(answer: str) -> bool:
    """Whether the last sentence is a question or holds an offer."""
    last = _SENTENCE_END.split(answer.strip())[-1]
    return bool(re.search(r"\?[\"'”’)\]]*$", last) or _OFFER.search(last))


def repeats(answer: str) -> bool:
    """Whether four words in a row occur twice."""
    grams = _grams(words(answer), 4)
    return len(set(grams)) < len(grams)


def copies(question: str, answer: str) -> bool:
    """Whether at least 60 % of the question's words stand in the answer in the question's order."""
    asked, said = words(question), words(answer)
    row = [0] * (len(said) + 1)
    for word in asked:  # the longest common subsequence, one row of the table at a time
        diagonal = 0
        for column, other in enumerate(said, 1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return bool(asked) and row[-1] >= COPIED_SHARE * len(asked)


def invents(question: str, answer: str) -> bool:
    """Whether the answer holds a number, link or e-mail address that the question does not hold."""
    asked = question.lower()
    numbers = set(re.findall(r"\d+", answer)) - set(re.findall(r"\d+", question))
    return bool(numbers) or any(link.lower().rstrip(".,;!?)") not in asked for link in _LINK.findall(answer))


def faults(question: str, answer: str, finished: bool = True) -> list[Mark]:
    """The pieces of the answer that break the rule, by the name of its part; those of one part never overlap.

    ``invents``: a number, link or e-mail address that the question does not hold. ``repeats``: four words in a row that
    stood before. ``cut``: the whole answer, where it was cut off or ends without end punctuation.
    """
    asked, numbers = question.lower(), set(re.findall(r"\d+", question))
    found = [m.span() for m in re.finditer(r"\d+", answer) if m.group() not in numbers]
    found += [m.span() for m in _LINK.finditer(answer) if m.group().lower().rstrip(".,;!?)") not in asked]
    known: set[tuple[str, ...]] = set()
    again = []
    said = list(_WORD.finditer(answer))
    for run in (said[at : at + 4] for at in range(len(said) - 3)):
        words_of_it = tuple(word.group().lower() for word in run)
        if words_of_it in known:
            again.append((run[0].start(), run[-1].end()))
        known.add(words_of_it)
    whole = [] if (finished and _COMPLETE.search(answer.strip())) or not answer else [(0, len(answer))]
    pieces = {"invents": found, "repeats": again, "cut": whole}
    return [Mark(*place, kind) for kind, places in pieces.items() for place in _joined(places)]


def length_fits(answer: str) -> bool:
    """Whether the answer has 20 to 36 words."""
    return SHORTEST <= len(words(answer)) <= LONGEST


def shares(rows: Iterable[tuple[str, str]]) -> dict[str, float]:
    """The share of (question, answer) rows with each of names, step, offer and length (20 to 36 words)."""
    rows = list(rows)
    checks = {
        "names": names_the_thing,
        "step": lambda _, answer: has_step(answer),
        "offer": lambda _, answer: closes_with_offer(answer),
        "length": lambda _, answer: length_fits(answer),
    }
    return {name: sum(check(*row) for row in rows) / max(1, len(rows)) for name, check in checks.items()}


@dataclass(frozen=True)
class Rater:
    """One simulated person.

    ``weights`` multiply the parts of the rule; ``left_bias`` is added to the left answer's utility,
    ``length_slope`` per word; a felt difference below ``tie_width`` is a tie; with probability ``lapse`` the
    vote is a coin.
    """

    name: str
    weights: Mapping[str, float]
    left_bias: float
    length_slope: float
    tie_width: float
    seed: int
    temperature: float = 0.5
    lapse: float = 0.05

    def score(self, question: str, reply: Reply, only: Sequence[str] = PARTS) -> float:
        """What the answer is worth to this rater by ``only`` these parts, the side it stands on left out."""
        by_part = parts(question, reply.text, reply.finished)
        worth = sum(self.weights[name] * value for name, value in by_part.items() if name in only)
        return worth + self.length_slope * (len(words(reply.text)) - (SHORTEST + LONGEST) / 2)

    def vote(self, question: str, left: Reply, right: Reply, draw: str) -> Side:
        """The rater's choice: P(left) = sigmoid(difference / temperature).

        Args:
            draw: What the vote is about (the comparison's id). The same rater, draw and answers give the same
                vote; other raters and other draws are independent of it.
        """
        return self._choice(question, left, right, draw, PARTS)

    def criteria(self, question: str, left: Reply, right: Reply, draw: str, asked: Sequence[str]) -> dict[str, Side]:
        """The rater's choice by each of ``CRITERIA`` that is asked for, drawn as ``vote`` is, by the parts that it is
        about."""
        return {name: self._choice(question, left, right, f"{draw}:{name}", CRITERIA[name]) for name in asked}

    def _choice(self, question: str, left: Reply, right: Reply, draw: str, only: Sequence[str]) -> Side:
        slip, coin, noise = _uniforms(self.seed, self.name, draw)
        if slip < self.lapse:
            return "left" if coin < 0.5 else "right"
        difference = self.score(question, left, only) - self.score(question, right, only) + self.left_bias
        if abs(difference) < self.tie_width:
            return "tie"
        return "left" if noise < 1 / (1 + math.exp(-difference / self.temperature)) else "right"

    def mark(self, question: str, reply: Reply, draw: str) -> list[Mark]:
        """The faults that the rater finds: each is overlooked with the probability of a lapse."""
        found = faults(question, reply.text, reply.finished)
        names = (f"{draw}:{mark.kind}:{mark.start}" for mark in found)
        return [
            mark
            for mark, name in zip(found, names, strict=True)
            if _uniforms(self.seed, self.name, name)[0] >= self.lapse
        ]


def panel(seed: int, lapse: float = 0.05) -> tuple[tuple[Rater, ...], tuple[Rater, ...]]:
    """Five raters: three whose votes train, and two who never vote before they judge the outcome.

    ``lapse`` 1.0 makes every vote a coin: the control in which nothing can be learnt.
    """
    raters = tuple(_rater(seed, number, lapse) for number in range(5))
    return raters[:3], raters[3:]


def _rater(seed: int, number: int, lapse: float) -> Rater:
    name = f"simulated-{number + 1}"
    spread = {part: math.exp(0.2 * _normal(seed, name, part)) for part in PARTS}
    return Rater(
        name=name,
        weights=spread,
        left_bias=0.1 + 0.05 * _normal(seed, name, "left"),
        length_slope=0.005 * _normal(seed, name, "slope"),
        tie_width=0.1,
        seed=seed,
        lapse=lapse,
    )


def _uniforms(seed: int, *names: str) -> tuple[float, float, float]:
    digest = hashlib.sha256("\x1f".join((str(seed), *names)).encode()).digest()
    first, second, third = (int.from_bytes(digest[at : at + 8], "big") / 2**64 for at in (0, 8, 16))
    return first, second, third


def _normal(seed: int, *names: str) -> float:
    """A standard normal number by Box and Muller."""
    first, second, _ = _uniforms(seed, *names)
    return math.sqrt(-2 * math.log(1 - first)) * math.cos(2 * math.pi * second)


def _joined(places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The places in order, those that share a character made one."""
    done: list[tuple[int, int]] = []
    for start, stop in sorted(places):
        if done and start < done[-1][1]:
            done[-1] = (done[-1][0], max(stop, done[-1][1]))
        else:
            done.append((start, stop))
    return done


def _grams(tokens: list[str], size: int) -> list[tuple[str, ...]]:
    return [tuple(tokens[at : at + size]) for at in range(len(tokens) - size + 1)]


def _nouns(text: str) -> set[str]:
    """Words in the singular, and the parts of hyphenated ones: "pre-orders" gives preorder, pre and order."""
    found = set()
    for word in words(text):
        word = word.removesuffix("'s").removesuffix("'")
        found |= {_singular(piece) for piece in (word.replace("-", ""), *word.split("-"))}
    return found


@lru_cache(maxsize=4096)
def _singular(word: str) -> str:
    if word in THINGS or len(word) < 4 or not word.endswith("s"):
        return word
    for plural, singular in (("knives", "knife"), ("shelves", "shelf"), ("loaves", "loaf")):
        if word.endswith(plural):
            return word.removesuffix(plural) + singular
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    return word if word.endswith(("ss", "us", "is")) else word[:-1]


def _clause_starts(answer: str) -> Iterator[str]:
    for sentence in _SENTENCE_END.split(answer.strip()):
        for match in _CLAUSE.finditer(sentence):
            yield sentence[match.end() :]
        opener = _OPENER.match(sentence)
        if opener:
            yield sentence[opener.end() :]


def _is_imperative(clause: str) -> bool:
    lead = _LEAD.match(clause)
    found = words(clause[lead.end() if lead else 0 :])[:2]
    if not found or found[0] not in VERBS:
        return False
    return found[0] not in AMBIGUOUS or (len(found) > 1 and found[1] in OBJECTS)
