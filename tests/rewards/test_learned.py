"""Several reward models as one: mean, deviation and penalty, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from burnish.records import Message, Row
from burnish.rewards import learned
from burnish.rewards.learned import Ensemble, mean_and_deviation
from burnish.rewards.scores import Asked, Combined, Weighted
from burnish.sampling import Sample


class Heads:
    """A reward model by its heads alone."""

    def __init__(self, factor: float, *names: str, weights: tuple[float, ...] = (1.0,)) -> None:
        self.factor, self.names, self.weights_H = factor, names or ("overall",), torch.tensor(weights)


ASKED = [Asked([1], Row((Message("user", "a"),), None, 1))]
SAMPLES = [[Sample((7,), (-1.0,), "stop"), Sample((9,), (-1.0,), "stop")]]


def test_mean_and_deviation_by_hand() -> None:
    assert mean_and_deviation([1.0, 5.0], [0.0, 0.0]) == (3.0, 2.0)
    assert mean_and_deviation([1.0, 5.0], [0.0, 4.0]) == (1.0, 0.0)  # they differ in their zero alone


def test_the_penalty_takes_off_what_the_models_disagree_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model 2 says 2 x the id - 8, model 4 says 4 x the id - 20: 6 and 8 of id 7, 10 and 16 of id 9."""
    monkeypatch.setattr(
        learned,
        "scores_by_head",
        lambda model, prompts, ids: [[[float(model.factor * i[0])] for i in group] for group in ids],
    )
    models: Any = [Heads(2), Heads(4)]
    assert Ensemble(models, [8.0, 20.0])(ASKED, SAMPLES).values == [[7.0, 13.0]]
    part = Weighted("learned", Ensemble(models, [8.0, 20.0], penalty=0.5))
    scores = Combined((part,))(ASKED, SAMPLES, {}, 0)
    assert scores.total == [[7.0 - 0.5 * 1.0, 13.0 - 0.5 * 3.0]]
    assert scores.figures() == {"reward/learned": 9.0, "reward/learned/uncertainty": 2.0}


def test_one_model_keeps_its_scale_and_says_nothing_of_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "scores_by_head", lambda model, prompts, ids: [[[3.0], [4.0]]])
    one: Any = [Heads(1)]
    found = Ensemble(one, [8.0])(ASKED, SAMPLES)
    assert (found.values, found.figures) == ([[3.0, 4.0]], {})


def test_heads_are_weighed_and_logged_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Overall says 5 and 7, the criteria 1 and 3, and 4 and 0: at 0.25 and 0.75 that is 3.25 and 0.75."""
    said = [[[5.0, 1.0, 4.0], [7.0, 3.0, 0.0]]]
    monkeypatch.setattr(learned, "scores_by_head", lambda model, prompts, ids: said)
    model: Any = Heads(1, "overall", "solves it", "house style", weights=(0.0, 0.25, 0.75))
    scores = Combined((Weighted("learned", Ensemble([model], [0.0])),))(ASKED, SAMPLES, {}, 0)
    assert scores.total == [[3.25, 0.75]]
    assert scores.figures() == {
        "reward/learned": 2.0,
        "reward/learned/overall": 6.0,
        "reward/learned/solves it": 2.0,
        "reward/learned/house style": 2.0,
    }
