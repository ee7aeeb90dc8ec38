"""Versions and reward models in the store: what is saved is loaded again and probed before it counts.

A version is its base's hash and one adapter, or the weights that differ from the base's; the renderer is part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import torch

from burnish.data.render import Renderer
from burnish.errors import ModelError
from burnish.models import weights
from burnish.models.base import WAYS, Base, resolve_base
from burnish.models.language import LanguageModel
from burnish.models.place import LOADED, SCORED
from burnish.models.reward import RewardModel
from burnish.models.selfcheck import fixed_stream, self_check
from burnish.models.spans import SpanModel
from burnish.objectives import Answer, Tree, pack
from burnish.progress import Progress, Silent
from burnish.records import Json, Message, Record
from burnish.store import Store, Work

Reward = TypeVar("Reward", RewardModel, SpanModel)
VERSION = 1
SAVED = 1e-5  # nats: saving and loading on one machine changes nothing
PROBES = (
    ("Where is my parcel? It was due on Monday.", "It left our store today. May I send you the link?"),
    ("Résumé, naïve, 北京, 3 × 4 = 12; <b>bold</b> & 'quoted'\n- a list", "Zwölf.\n\n```\nprint(3 * 4)\n```"),
)


@dataclass(frozen=True)
class Loaded:
    """A version that answers: its model (frozen), its renderer and its base."""

    model: LanguageModel
    renderer: Renderer
    base: Base


def save_version(
    store: Store,
    model: LanguageModel,
    renderer: Renderer,
    *,
    stage: str,
    settings: Mapping[str, Json],
    figures: Mapping[str, Json] | None = None,
) -> dict[str, Json]:
    """Keep a model's adapter or own weights, tokenizer and renderer; returns the body of its record.

    They are read back from the store and probed: fixed prompts give the same ids, and logprobs within 1e-5.

    Raises:
        ModelError: A weight is not finite, or what was read back answers differently.
        StoreError: It cannot be written; nothing half-saved is listed.
    """
    if model.folded:
        raise ModelError("a model with a folded adapter cannot be saved: save the one it was made from")
    files = model.files()
    adapter = store.blobs.put_tree(files) if files else None
    body: dict[str, Json] = {
        "stage": stage,
        "base": {"name": model.base.name, "digest": model.base.digest},
        "adapter": adapter,
        "renderer": renderer.to_json(),
        "tokenizer": store.blobs.put_file(renderer.tokenizer_file),
        "settings": dict(settings),
        "figures": dict(figures or {}),
        "probe": probe(model, renderer),
    }
    kept = store.blobs.tree(adapter) if adapter else None
    plain = _plain(model.base, store.cache) if model.changed else model
    _require_same(body["probe"], probe(plain.sibling(kept), _renderer(store, body)), SAVED, "the saved version")
    return body


def load_version(
    store: Store,
    record: Record,
    cache: Path | None = None,
    *,
    like: LanguageModel | None = None,
    trainable: bool = False,
    progress: Progress | None = None,
) -> Loaded:
    """Load a version and replay its probe. ``like``, a model over the same base, shares its tensors.

    ``trainable`` trains its adapter, or its own weights; the base has neither.

    Raises:
        ModelError: The base is not the one it was trained on, or the probe gives other ids or logprobs.
        StoreError: A file of it is missing or was changed.
    """
    body, cache = record.body, cache or store.cache
    where = record.name or record.id
    if like is None or like.folded or like.changed or like.base.digest != body["base"]["digest"]:
        base = resolve_base(body["base"]["name"], cache, progress, relative_to=store.path.parent)
        _require_base(base, body, where)
        like = _plain(base, cache)
        if like.message:
            (progress or Silent()).say(like.message)
    files = store.blobs.tree(body["adapter"]) if body["adapter"] else None
    loaded = Loaded(like.sibling(files, trainable=trainable), _renderer(store, body), like.base)
    _require_same(body["probe"], probe(loaded.model, loaded.renderer), _coarser(LOADED, body["probe"], like), where)
    return loaded


def base_version(
    store: Store, project: str, base: Base, renderer: Renderer, progress: Progress | None = None
) -> Record:
    """The base itself as a version of the project: the first one, and what the others are measured against."""
    settings = {"base": base.digest, "renderer": renderer.fingerprint}
    work = Work("version", "base", VERSION, settings, (), 0, project)

    def make() -> Mapping[str, Json]:
        return save_version(store, _plain(base, store.cache), renderer, stage="base", settings={})

    return store.once(work, make, progress=progress)


def adopt_version(store: Store, project: str, own: Record, renderer: Renderer, cache: Path) -> Record:
    """A version of another project of the store as version 0 of this one, with this one's renderer.

    Raises:
        ModelError: Its base is not here, or it does not load as it was saved.
    """
    work = Work("version", "base", VERSION, {"renderer": renderer.fingerprint}, (own,), 0, project)

    def make() -> Mapping[str, Json]:
        return save_version(store, load_version(store, own, cache).model, renderer, stage="base", settings={})

    return store.once(work, make)


def import_adapter(store: Store, project: str, folder: Path, base: Base, renderer: Renderer, parent: Record) -> Record:
    """An adapter that another tool made for ``base``, as a version.

    Raises:
        ModelError: The folder holds no adapter in PEFT's layout, or one that does not fit.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no folder {folder}", mend="name the one that holds adapter_config.json")
    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and path.name != weights.FILE}
    model = LanguageModel.load(base, files)
    made = {name: hashlib.sha256(data).hexdigest() for name, data in model.files().items()}
    work = Work("version", "import", VERSION, {"base": base.digest, "adapter": made}, (parent,), 0, project)
    return store.once(work, lambda: save_version(store, model, renderer, stage="import", settings={}))


def save_reward(store: Store, reward: RewardModel | SpanModel, loaded: Loaded, version: Record) -> dict[str, Json]:
    """Keep a reward model, of answers or of their segments, trained on ``version`` (``loaded``).

    Returns what its record must hold.

    Raises:
        ModelError: A weight is not finite, or what was read back scores a fixed batch differently.
    """
    scores = _scores(reward)
    tree = store.blobs.put_tree(reward.files())
    parent = load_version(store, version, like=loaded.model).model
    again = _scores(type(reward).load(parent, store.blobs.tree(tree)))
    _require_near("the saved reward model", [scores], [again], SAVED * _spread(scores))
    return {
        "version": version.id,
        "reward": tree,
        "heads": list(reward.names),
        "scores": scores,
        **_rounded(reward.trunk),
    }


def load_reward(
    store: Store,
    record: Record,
    cache: Path | None = None,
    *,
    like: LanguageModel | None = None,
    kind: type[Reward] = RewardModel,  # type: ignore[assignment]
) -> Reward:
    """Load a reward model of this kind and score its fixed batch again.

    Raises:
        ModelError: A head scores otherwise than when it was saved, or has another name, or its version or base does
            not fit.
    """
    body = record.body
    parent = load_version(store, store.record(body["version"]), cache, like=like).model
    reward = kind.load(parent, store.blobs.tree(body["reward"]))
    if list(reward.names) != body["heads"]:
        what = f"its heads are {', '.join(reward.names)}, and were {', '.join(body['heads'])}"
        raise ModelError(what, where=record.id, mend="burnish verify checks its files")
    _require_near(
        record.id, [body["scores"]], [_scores(reward)], _coarser(SCORED, body, parent) * _spread(body["scores"])
    )
    return reward


def load_rewards(
    store: Store,
    records: Sequence[Record],
    cache: Path | None,
    *,
    like: Loaded,
    kind: type[Reward] = RewardModel,  # type: ignore[assignment]
) -> list[Reward]:
    """The reward models of several records, to score what the version ``like`` answers; they share its tensors.

    Raises:
        ModelError: One reads ids of another tokenizer, does not fit its version, or scores otherwise than when saved.
    """
    with like.renderer.tokenizer_file.open("rb") as file:
        tokenizer = hashlib.file_digest(file, "sha256").hexdigest()
    for record in records:
        learned_on = store.record(record.body["version"])
        if learned_on.body["tokenizer"] != tokenizer:
            what = f"it was learned on {learned_on.name or learned_on.id}, whose tokenizer is another one"
            raise ModelError(what, where=record.id, mend="learn the reward again, on a version of this base")
    return [load_reward(store, record, cache, like=like.model, kind=kind) for record in records]


@torch.no_grad()
def probe(model: LanguageModel, renderer: Renderer) -> dict[str, Json]:
    """The ids of fixed exchanges, and the logprob of every id of their answers."""
    ids, logps = [], []
    for question, answer in PROBES:
        prompt, said = renderer.prompt([Message("user", question)]), renderer.answer(answer)
        stream = pack([Tree(prompt, (Answer(said, [1.0] * len(said)),))], budget=1, keep_last=False)[0]
        logp_S = model.logp(stream).logp_S
        assert logp_S is not None
        ids.append([prompt, said])
        logps.append(logp_S.tolist())
    return {"ids": ids, "logp": logps, **_rounded(model)}


def _rounded(model: LanguageModel) -> dict[str, Json]:
    """What a record says of the dtype that its figures were computed in: nothing where it is float32."""
    return {} if model.dtype == torch.float32 else {"dtype": str(model.dtype).removeprefix("torch.")}


def _coarser(allowed: Mapping[torch.dtype, float], saved: Mapping[str, Json], model: LanguageModel) -> float:
    """How far figures may be from those that were saved: the coarser of both dtypes decides."""
    return max(allowed[model.dtype], allowed[getattr(torch, saved.get("dtype", "float32"))])


@torch.no_grad()
def _scores(reward: RewardModel | SpanModel) -> list[float]:
    found_AH = reward.by_head(fixed_stream(reward.trunk.module.config.vocab_size))
    scores: list[float] = found_AH.flatten().tolist()
    return scores


def _spread(scores: Sequence[float]) -> float:
    """What a tolerance is multiplied with: rewards have no unit of their own."""
    return max(1.0, max(map(abs, scores)))


def _plain(base: Base, cache: Path) -> LanguageModel:
    """The base alone, on the path that its self-check allows."""
    model = LanguageModel.load(base)
    self_check(model, cache)
    return model


def _renderer(store: Store, body: Mapping[str, Json]) -> Renderer:
    store.blobs.read(body["tokenizer"])  # checks the hash
    return Renderer.from_json(body["renderer"], store.blobs.path(body["tokenizer"]))


def _require_base(base: Base, body: Mapping[str, Json], where: str) -> None:
    if base.digest != body["base"]["digest"]:
        found, wanted = base.digest[:12], body["base"]["digest"][:12]
        what = f"the base {base.name} is {found}, and the version was trained on {wanted}"
        raise ModelError(what, where=where, mend=f"bring the old base back; {WAYS}")


def _require_same(wanted: Mapping[str, Json], found: Mapping[str, Json], tolerance: float, where: str) -> None:
    if wanted["ids"] != found["ids"]:
        raise ModelError("its tokenizer and template give other ids than when it was saved", where=where)
    _require_near(where, wanted["logp"], found["logp"], tolerance)


def _require_near(
    where: str, wanted: Sequence[Sequence[float]], found: Sequence[Sequence[float]], tolerance: float
) -> None:
    before, after = (torch.tensor(list(chain(*rows)), dtype=torch.float64) for rows in (wanted, found))
    difference = float((before - after).abs().max())
    if not difference <= tolerance:
        what = f"it answers otherwise than when it was saved: a figure differs by {difference:.2e}"
        raise ModelError(what, where=where, mend="burnish verify checks its files")
