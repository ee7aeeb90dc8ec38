"""The recipe's rows of what reinforcement learning is paid with."""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.table import Auto, NotNegative, PartName, Positive, Table, TypeName

Number = Annotated[float, Field(allow_inf_nan=False)]
OWN_KEYS = {  # keys that a kind reads beside those that all of them do
    "learned": ("uncertainty_penalty",),
    "own": ("function", "failures"),
    "length": ("shortest", "longest"),
    "format": ("pattern", "json_object"),
    "judge": ("model", "criterion", "failures"),
    "environment": (),
    "spans": ("type", "per"),
}
BETTER = "The better answer is more helpful, more correct and clearer."
NEEDED = {"own": "function", "length": "longest", "judge": "model", "spans": "type"}


class RewardPart(Table):
    """One part of what an answer is paid; the reward is the weighted sum of all rows."""

    kind: Literal["learned", "own", "length", "format", "judge", "environment", "spans"] = Field(
        description="The reward model of [reward], a function of yours, a rule on an answer's length or format, a "
        "judge that compares it with the start version's, what rl.environment pays for an episode, or a type of error "
        "of [spans], paid segment by segment."
    )
    name: TypeName | None = Field(
        default=None,
        description="Under which the part is logged, as reward/NAME; its kind, function or type if not given.",
    )
    weight: Number = Field(default=1.0, description="What the part's number is multiplied with, last.")
    normalise: Literal["none", "batch", "running"] = Field(
        default="none",
        description="Subtract the mean and divide by the deviation of the part, over the rollout's answers (batch) or "
        "those of all rollouts so far (running). Looks at dev prompts use the start version's, to stay comparable.",
    )
    clip: tuple[Number, Number] | None = Field(
        default=None, description="Lowest and highest number of the part, after normalise and before weight."
    )
    uncertainty_penalty: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.0,
        description="learned: how many deviations between the models of [reward] are subtracted from their mean.",
    )
    function: PartName | None = Field(default=None, description="own: package.module:function.")
    failures: Literal["stop", "count"] | Auto = Field(
        default="auto",
        description="own, judge: where the function raises or the judge has no answer, the run stops, or the sampled "
        "answer leaves its group and is counted in reward/NAME/failed; auto is stop, and count for a judge.",
    )
    shortest: NotNegative = Field(default=0, description="length: fewer tokens than this cost.")
    longest: Positive | None = Field(
        default=None,
        description="length: more tokens than this cost. The part is minus the tokens too few or too many, divided by "
        "longest.",
    )
    pattern: str | None = Field(
        default=None, description="format: 1 where the whole answer matches this regular expression, else 0."
    )
    json_object: bool | tuple[str, ...] = Field(
        default=False,
        description="format: 1 where the whole answer is a JSON object (that holds the listed keys), else 0.",
    )
    model: Annotated[str, Field(min_length=1)] | None = Field(
        default=None, description="judge: the model's name at the endpoint that BURNISH_JUDGE_URL names."
    )
    criterion: Annotated[str, Field(min_length=1)] = Field(
        default=BETTER,
        description="judge: what makes an answer better, in a sentence.",
    )
    type: TypeName | None = Field(default=None, description="spans: the type of error, one of spans.types.")
    per: Literal["segment", "answer"] = Field(
        default="segment",
        description="spans: every segment pays 1 to -1, so that longer answers without errors earn more; or that is "
        "divided by the answer's segments.",
    )

    @property
    def title(self) -> str:
        """The name under which the part is logged."""
        return self.name or self.function or self.type or self.kind

    @model_validator(mode="after")
    def keys_fit_the_kind(self) -> RewardPart:
        for kind, keys in OWN_KEYS.items():
            strange = [key for key in keys if key in self.model_fields_set and key not in OWN_KEYS[self.kind]]
            if strange:
                raise ValueError(f'{strange[0]} belongs to kind = "{kind}", not "{self.kind}": take it out')
        needed = NEEDED.get(self.kind)
        if needed and getattr(self, needed) is None:
            raise ValueError(f'kind = "{self.kind}" needs {needed}')
        if self.longest is not None and self.shortest > self.longest:
            raise ValueError(f"shortest = {self.shortest} is more than longest = {self.longest}")
        scaled = next((key for key in ("normalise", "clip") if key in self.model_fields_set), None)
        if self.kind == "spans" and scaled:
            raise ValueError(f"{scaled} is for numbers of whole answers, and spans pays single tokens: take it out")
        if self.kind == "format" and (self.pattern is not None) == bool(self.json_object):
            raise ValueError('kind = "format" needs one of pattern and json_object')
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(f"pattern {json.dumps(self.pattern)} is no regular expression: {error}") from error
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError("clip is the lowest and the highest number, in this order")
        if self.weight == 0:
            raise ValueError(f"a weight of 0 pays nothing: take the part {self.title} out")
        return self
