"""What may be shown of an answer while it is sampled."""

from __future__ import annotations

from pathlib import Path

import pytest

from burnish.data import Renderer
from burnish.records import Message, Record
from burnish.serving.ticket import Ask, Said, Ticket

RECORD = Record("version-1", "version", "support", "k", (), {}, "d", "2026-01-01T00:00:00.000000+00:00", "support@1")


@pytest.fixture
def renderer(tiny_model_folder: Path) -> Renderer:
    return Renderer.from_folder(tiny_model_folder, None)


def say(renderer: Renderer, text: str, *stop: str) -> tuple[Ticket, list[str], bool]:
    """The pieces that come out while the ids of a text go in one by one."""
    pieces: list[str] = []

    def emit(reply: object) -> None:
        assert isinstance(reply, Said)
        pieces.append(reply.text)

    ask = Ask((Message("user", "?"),), stop=stop)
    ticket = Ticket("chatcmpl-1", RECORD, renderer, ask, "production", (1,), 0, 0.0, emit)
    ended = any(ticket.take(id, -0.5) for id in renderer.answer(text))
    ticket.finish()
    return ticket, pieces, ended


def test_only_whole_characters_are_shown(renderer: Renderer) -> None:
    text = "Zoë: 北京 → 👩‍👧!"
    ticket, pieces, ended = say(renderer, text)
    assert len(renderer.answer(text)) > len(text)  # several tokens make one character
    assert pieces == list("Zoë: 北京 → 👩‍👧!")
    assert (ticket.text, ended) == (text, False)


def test_bytes_that_never_become_a_character_come_at_the_end(renderer: Renderer) -> None:
    ids = renderer.answer("aé")[:-2]  # the last byte of é is missing
    pieces: list[str] = []
    ask = Ask((Message("user", "?"),))
    ticket = Ticket("x", RECORD, renderer, ask, "production", (1,), 0, 0.0, lambda r: pieces.append(r.text))
    for id in ids:
        ticket.take(id, -0.5)
    assert pieces == ["a"]
    ticket.finish()
    assert pieces == ["a", "�"]


def test_a_stop_string_is_never_shown_not_even_its_beginning(renderer: Renderer) -> None:
    ticket, pieces, ended = say(renderer, "one END two", "END")
    assert ("".join(pieces), ended, ticket.text) == ("one ", True, "one ")
    assert ticket.stopped_by == "END"


def test_what_only_began_like_a_stop_string_is_shown_after_all(renderer: Renderer) -> None:
    _, pieces, ended = say(renderer, "the ENxD of EN", "END")
    assert ("".join(pieces), ended) == ("the ENxD of EN", False)
    assert not any(piece.startswith("E") and len(piece) == 1 for piece in pieces)


def test_the_stop_string_that_comes_first_in_the_text_counts(renderer: Renderer) -> None:
    ticket, _, _ = say(renderer, "xaby", "y", "ab", "b")
    assert (ticket.text, ticket.stopped_by) == ("x", "ab")
