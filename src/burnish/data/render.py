"""The only code that knows chat templates: messages into ids, ids into text.

Prompt and answer are rendered apart and joined, in training as in serving, so that their ids are equal by
construction and the mask of what is trained needs no search. What people write is inert: a special token that
stands in a message is cut in two before the tokenizer sees it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.sandbox
from tokenizers import Tokenizer

from burnish.errors import DataError
from burnish.records import Document, Json, Message

CUT = "\ufdd0"  # a code point that Unicode keeps out of all text; the tokenizer never sees it
PROBE = "burnish-probe"


class Renderer:
    """Renders conversations for one tokenizer and one chat template.

    ``system`` is pinned: it stands before every conversation that brings no system message. None leaves the
    template its own default, "" suppresses it. ``stop_ids`` end an answer; the first is the trained one.
    """

    def __init__(
        self,
        tokenizer_file: Path,
        template: str,
        tokens: Mapping[str, str],
        system: str | None,
        stop_ids: Sequence[int] | None = None,
    ) -> None:
        self.tokenizer_file, self.template, self.tokens, self.system = (
            tokenizer_file,
            template,
            dict(tokens),
            system,
        )
        try:
            data = tokenizer_file.read_bytes()
            self._tokenizer = Tokenizer.from_buffer(data)
        except Exception as error:  # the library raises bare exceptions
            raise DataError(f"the tokenizer cannot be read: {error}", where=str(tokenizer_file)) from error
        self._tokenizer_digest = hashlib.sha256(data).hexdigest()
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        controls = {i: t for i, t in self._tokenizer.get_added_tokens_decoder().items() if _is_control(t)}
        self._controls = frozenset(controls)
        self._openings = frozenset(t.content[0] for t in controls.values())
        self._literal = not any(t.normalized for t in controls.values())  # else other characters may become them
        self._compiled = self._compile()
        self.stop_ids = tuple(stop_ids) if stop_ids is not None else self._find_stop_ids()

    @staticmethod
    def from_folder(folder: Path, system: str | None) -> Renderer:
        """The renderer of a model folder: tokenizer.json, tokenizer_config.json and chat_template.jinja.

        Raises:
            DataError: A file is missing or broken, or there is no chat template.
        """
        tokenizer_file = folder / "tokenizer.json"
        if not tokenizer_file.is_file():
            raise DataError(
                "there is no tokenizer.json", where=str(folder), mend="save the model with a fast tokenizer"
            )
        config = _json_file(folder / "tokenizer_config.json")
        tokens = {k: _content(v) for k, v in config.items() if k.endswith("_token") and isinstance(v, str | dict)}
        renderer = Renderer(tokenizer_file, _template(folder, config), tokens, system)
        ends = _json_file(folder / "generation_config.json").get("eos_token_id")
        more = [i for i in (ends if isinstance(ends, list) else [ends]) if isinstance(i, int)]
        renderer.stop_ids = tuple(dict.fromkeys((*renderer.stop_ids, *more)))
        return renderer

    def to_json(self) -> dict[str, Json]:
        """All that decides the ids, but for the tokenizer's file, of which it holds the SHA-256."""
        return {
            "template": self.template,
            "tokens": self.tokens,
            "system": self.system,
            "stop_ids": list(self.stop_ids),
            "tokenizer": self._tokenizer_digest,
        }

    @staticmethod
    def from_json(spec: Mapping[str, Json], tokenizer_file: Path) -> Renderer:
        """The renderer that ``to_json`` described.

        Raises:
            DataError: ``tokenizer_file`` is not the one that it was made with.
        """
        renderer = Renderer(tokenizer_file, spec["template"], spec["tokens"], spec["system"], spec["stop_ids"])
        if renderer._tokenizer_digest != spec["tokenizer"]:
            raise DataError("the tokenizer is not the one this version was trained with", where=str(tokenizer_file))
        return renderer

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over `to_json`: equal fingerprints give equal ids."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @property
    def vocabulary(self) -> int:
        """How many ids the tokenizer knows, added tokens included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def prompt(self, messages: Sequence[Message], documents: Sequence[Document] = ()) -> list[int]:
        """The ids of a conversation up to where the answer begins.

        Raises:
            DataError: It does not end with a user message, has an unknown role, or the template refuses it.
        """
        return self._ids(self._render(self._complete(messages, documents), answer_follows=True))

    def answer(self, text: str) -> list[int]:
        """The ids of an answer, ending with the stop token that is trained (and nothing after it)."""
        return [*self._ids(self._inert(text)), self.stop_ids[0]]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """The characters of ``text`` that each id of `answer` stands for; the stop token stands for none."""
        found: list[tuple[int, int]] = []
        done = 0
        for part in self._inert(text).split(CUT):
            coded = self._tokenizer.encode(part, add_special_tokens=False)
            found += [(done + start, done + stop) for start, stop in coded.offsets]
            done += len(part)
        return [*found, (done, done)]

    def turns(
        self, messages: Sequence[Message], answer: str, documents: Sequence[Document] = ()
    ) -> list[tuple[list[int], int | None]]:
        """A conversation and its answer in parts: what is read before an answer, that answer, and so on to the last.

        Each part has the number of the assistant message that it is, None where it is read. An answer's ids are those
        that sampling it would give, and what comes before it those that it would be sampled from. An assistant message
        that follows no user message belongs to what is read.

        Raises:
            DataError: The template renders an earlier part otherwise once a later one follows.
        """
        whole = [*messages, Message("assistant", answer)]
        numbers = {at: n for n, at in enumerate(i for i, m in enumerate(whole) if m.role == "assistant")}
        parts: list[tuple[list[int], int | None]] = []
        done: list[int] = []
        for at, number in numbers.items():
            if at + 1 < len(whole) and (at == 0 or whole[at - 1].role != "user"):
                continue
            prompt, said = self.prompt(whole[:at], documents), self.answer(whole[at].content)
            if prompt[: len(done)] != done:
                raise DataError(
                    "the template renders earlier turns otherwise once a later one follows",
                    mend='their answers cannot be trained as they would be sampled: leave sft.train_on at "last"',
                )
            parts += [(prompt[len(done) :], None), (said, number)]
            done = [*prompt, *said]
        return parts

    def following(
        self, messages: Sequence[Message], replies: Sequence[str], documents: Sequence[Document] = ()
    ) -> list[int]:
        """The ids after an answer's stop token, up to where the next answer begins.

        ``messages`` was answered, and each answer got one of ``replies``, a user message. What was answered is no
        argument: its ids stay as they were sampled, and a probe stands for it.

        Raises:
            DataError: The template renders an earlier turn otherwise once a later one follows.
        """
        said = [m for reply in replies for m in (Message("assistant", PROBE), Message("user", reply))]
        done = [*self.prompt([*messages, *said[:-2]], documents), *self.answer(PROBE)]
        whole = self.prompt([*messages, *said], documents)
        if whole[: len(done)] != done:
            raise DataError(
                "the template renders earlier turns otherwise once a later one follows",
                mend="an episode would be trained as it is never served: use another base, or leave rl.environment out",
            )
        return whole[len(done) :]

    def text(self, ids: Sequence[int]) -> str:
        """What an answer says, for people: without the stop token and other special tokens."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)

    def places(self, ids: Sequence[int]) -> list[tuple[int, int]]:
        """The characters of `text` that each id stands for: what it adds to what the ids before it say.

        Of several ids that make one character the last has it; a special token has none.
        """
        whole, found, done = self.text(ids), list[tuple[int, int]](), 0
        for count in range(1, len(ids) + 1):
            said = self.text(ids[:count])
            if not whole.startswith(said):  # it ends within a character, which is said as U+FFFD
                said = said.rstrip("\ufffd")
            stop = min(max(done, len(said)), len(whole))
            found.append((done, stop))
            done = stop
        return found

    def marked(self, ids: Sequence[int]) -> str:
        """What ids say with every special token in it, for people who check what is trained."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def mismatch(self, messages: Sequence[Message], answer: str, documents: Sequence[Document] = ()) -> str | None:
        """How the template itself would render a row otherwise than it is trained; None where it agrees.

        What the template puts after the stop token (a newline, as a rule) does not count.
        """
        whole = [*self._complete(messages, documents), Message("assistant", answer)]
        theirs, ours = self._ids(self._render(whole, answer_follows=False)), self.prompt(messages, documents)
        if theirs[: len(ours)] != ours:
            return "the template renders the prompt otherwise when the answer stands after it"
        said = self.answer(answer)
        if theirs[len(ours) : len(ours) + len(said)] != said:
            return "the template renders the answer or its end otherwise"
        return None

    def _complete(self, messages: Sequence[Message], documents: Sequence[Document]) -> list[Message]:
        """The conversation with the pinned system prompt, and the documents before the first question."""
        done = list(messages)
        for number, message in enumerate(done, 1):
            if message.role not in ("system", "user", "assistant") or (message.role == "system" and number > 1):
                raise DataError(
                    f'message {number} cannot have the role "{message.role}"',
                    mend="roles are system (first message only), user and assistant",
                )
        if not done or done[-1].role != "user":
            raise DataError("the conversation does not end with a user message", mend="put what is asked last")
        if self.system is not None and done[0].role != "system":
            done.insert(0, Message("system", self.system))
        if documents:
            first = next(i for i, m in enumerate(done) if m.role == "user")
            read = "".join(f"Title: {d.title}\n{d.text}\n\n" if d.title else f"{d.text}\n\n" for d in documents)
            done[first] = replace(done[first], content=read + done[first].content)
        return done

    def _render(self, messages: Sequence[Message], answer_follows: bool) -> str:
        contents = [{"role": m.role, "content": self._inert(m.content)} for m in messages]
        try:
            return self._compiled.render(
                messages=contents, add_generation_prompt=answer_follows, tools=None, documents=None,
                enable_thinking=False, **self.tokens,
            )  # fmt: skip
        except Exception as error:  # a template may fail in any way
            hint = "its template may know no system message: leave data.system out" if self.system else None
            raise DataError(f"the chat template cannot render this conversation: {error}", mend=hint) from error

    def _ids(self, rendered: str) -> list[int]:
        parts = rendered.split(CUT)
        return [i for part in parts for i in self._tokenizer.encode(part, add_special_tokens=False).ids]

    def _inert(self, text: str) -> str:
        """The text with a cut inside everything in it that the tokenizer takes for a control token."""
        text = text.replace(CUT, "\ufffd")
        if self._literal and self._openings.isdisjoint(text):
            return text
        done: list[str] = []
        todo = [text]
        while todo:
            piece = todo.pop()
            at = self._first_control(piece)
            if at is None:
                done.append(piece)
            else:
                todo += [piece[at:], piece[:at]]
        return CUT.join(done)

    def _first_control(self, text: str) -> int | None:
        """A place inside the first control token of the text."""
        coded = self._tokenizer.encode(text, add_special_tokens=False)
        if self._controls.isdisjoint(coded.ids):
            return None
        spans = (o for i, o in zip(coded.ids, coded.offsets, strict=True) if i in self._controls)
        return next((start + 1 for start, stop in spans if stop - start > 1), None)

    def _compile(self) -> jinja2.Template:
        environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _Generation]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        # no strftime_now: a prompt that holds today's date would not have the ids it was trained with
        try:
            return environment.from_string(self.template)
        except jinja2.TemplateError as error:
            raise DataError(f"the chat template is broken: {error}", where=str(self.tokenizer_file.parent)) from error

    def _find_stop_ids(self) -> tuple[int, ...]:
        """The control token that the template puts after an answer, and the tokenizer's end of text."""
        whole = [*self._complete([Message("user", "?")], ()), Message("assistant", PROBE)]
        after = self._ids(self._render(whole, answer_follows=False).rpartition(PROBE)[2])
        end = self._tokenizer.token_to_id(self.tokens.get("eos_token", ""))
        found = [i for i in after if i in self._controls][:1] + ([end] if end is not None else [])
        if not found:
            raise DataError(
                "the template ends no answer with a stop token, and the tokenizer names no eos_token",
                where=str(self.tokenizer_file.parent), mend="use a base that was tuned for chat",
            )  # fmt: skip
        return tuple(dict.fromkeys(found))


class _Generation(jinja2.ext.Extension):
    """``{% generation %}`` marks answers for libraries that search for them; here it is transparent."""

    tags = frozenset({"generation"})  # type: ignore[assignment]

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _is_control(token: Any) -> bool:
    """Special tokens, and markup such as <think> that is added without being special; no added words."""
    text = token.content
    return len(text) > 1 and (token.special or (text[0] in "<[" and text[-1] in ">]"))


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _content(token: str | Mapping[str, Json]) -> str:
    return token if isinstance(token, str) else str(token.get("content", ""))


def _json_file(path: Path) -> dict[str, Json]:
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise DataError(f"not JSON: {error}", where=str(path)) from error
    return value if isinstance(value, dict) else {}


def _template(folder: Path, config: Mapping[str, Json]) -> str:
    own = folder / "chat_template.jinja"
    found = own.read_text(encoding="utf-8") if own.is_file() else config.get("chat_template")
    if isinstance(found, list):
        found = next((t.get("template") for t in found if t.get("name") == "default"), None)
    if not isinstance(found, str):
        raise DataError(
            "the base has no chat template", where=str(folder),
            mend="use a base that was tuned for chat, or put a chat_template.jinja beside its tokenizer",
        )  # fmt: skip
    return found
