"""The recipe's table of reinforcement learning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from burnish.config.rewards import RewardPart
from burnish.config.stages import Paced
from burnish.config.table import Auto, PartName, Positive, PositiveFloat


class Rl(Paced):
    """Reinforcement learning against a reward: the learned one, or the weighted sum of ``rewards``."""

    algorithm: Literal["grpo"] | PartName = Field(
        default="grpo", description='"grpo", or an own credit function package.module:function: rewards to advantages.'
    )
    rewards: tuple[RewardPart, ...] = ()
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

    @property
    def paid(self) -> tuple[RewardPart, ...]:
        """The parts of the reward: the learned one alone where the recipe lists none."""
        return self.rewards or (RewardPart(kind="learned"),)

    @model_validator(mode="after")
    def parts_have_names_of_their_own(self) -> Rl:
        titles = [part.title for part in self.rewards]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise ValueError(f"two parts of the reward are called {twice}: give each a name")
        return self

    @model_validator(mode="after")
    def credit_reads_its_keys(self) -> Rl:
        if ":" in self.algorithm and "scale" in self.model_fields_set:
            raise ValueError(f"rl.scale belongs to grpo: {self.algorithm} gets the rewards alone; take scale out")
        return self
