"""The recipe's table of reinforcement learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.stages import Paced
from burnish.config.table import Auto, PartName, Positive, PositiveFloat


class Rl(Paced):
    """Reinforcement learning against the learned reward, an own one, or their sum."""

    algorithm: Literal["grpo"] | PartName = Field(
        default="grpo", description='"grpo", or an own credit function package.module:function: rewards to advantages.'
    )
    reward: PartName | None = Field(
        default=None,
        description="An own reward, package.module:function: the reward without [reward], added to the learned one "
        "with it.",
    )
    scale: Literal["group", "batch"] = Field(
        default="group", description="Divides advantages by their deviation within a group, or over the rollout."
    )
    updates: Positive = Field(default=12, description="Optimizer updates; two per rollout.")
    prompts: Positive = Field(default=8, description="Prompts per rollout.")
    group: Annotated[int, Field(ge=2)] = Field(default=8, description="Answers sampled per prompt.")
    learning_rate: PositiveFloat | Auto = Field(default="auto", description="Learning rate; auto is 3e-4.")
    kl: Annotated[float, Field(ge=0)] | Auto = Field(
        default="auto", description="Weight of KL to the start version; auto is 0.02."
    )
    clip: tuple[PositiveFloat, PositiveFloat] = Field(
        default=(0.2, 0.28), description="Lower and upper clip of the ratio."
    )
    stop_kl: PositiveFloat = Field(
        default=0.15, description="Stops when KL per token to the start version exceeds this."
    )
    stop_length: PositiveFloat = Field(
        default=0.3, description="Stops when the mean length has moved by more than this share."
    )
    demonstrations: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Weight of the SFT rows' likelihood inside rl."
    )

    @model_validator(mode="after")
    def credit_reads_its_keys(self) -> Rl:
        if ":" in self.algorithm and "scale" in self.model_fields_set:
            raise ValueError(f"rl.scale belongs to grpo: {self.algorithm} gets the rewards alone; take scale out")
        return self
