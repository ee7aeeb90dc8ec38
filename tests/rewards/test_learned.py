"""Several reward models as one: mean, deviation and penalty, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from burnish.records import Message, Row
from burnish.rewards import learned
from burnish.rewards.learned import Ensemble, mean_and_deviation
from burnish.rewards.scores import Asked, Combined, Weighted
from burnish.sampling import Sample

ASKED = [Asked([1], Row((Message("user", "a"),), None, 1))]
SAMPLES = [[Sample((7,), (-1.0,), "stop"), Sample((9,), (-1.0,), "stop")]]


def test_mean_and_deviation_by_hand() -> None:
    assert mean_and_deviation([1.0, 5.0], [0.0, 0.0]) == (3.0, 2.0)
    assert mean_and_deviation([1.0, 5.0], [0.0, 4.0]) == (1.0, 0.0)  # they differ in their zero alone


def test_the_penalty_takes_off_what_the_models_disagree_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Model 2 says 2 x the id - 8, model 4 says 4 x the id - 20: 6 and 8 of id 7, 10 and 16 of id 9."""
    monkeypatch.setattr(
        learned, "score_answers", lambda model, prompts, ids: [[float(model * i[0]) for i in group] for group in ids]
    )
    models: Any = [2, 4]
    assert Ensemble(models, [8.0, 20.0])(ASKED, SAMPLES).values == [[7.0, 13.0]]
    part = Weighted("learned", Ensemble(models, [8.0, 20.0], penalty=0.5))
    scores = Combined((part,))(ASKED, SAMPLES, {}, 0)
    assert scores.total == [[7.0 - 0.5 * 1.0, 13.0 - 0.5 * 3.0]]
    assert scores.figures() == {"reward/learned": 9.0, "reward/learned/uncertainty": 2.0}


def test_one_model_keeps_its_scale_and_says_nothing_of_uncertainty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "score_answers", lambda model, prompts, ids: [[3.0, 4.0]])
    one: Any = [object()]
    found = Ensemble(one, [8.0])(ASKED, SAMPLES)
    assert (found.values, found.figures) == ([[3.0, 4.0]], {})
