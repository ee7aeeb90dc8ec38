"""The recipe's table of reinforcement learning."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from burnish.config.algorithms import ALONE, CREDITS_WRITTEN, KEYS, Knobs, Whitened, reads
from burnish.config.rewards import RewardPart
from burnish.config.stages import Paced
from burnish.config.table import Auto, NotNegative, PartName, Positive, PositiveFloat, Share, Table, default_of


class Chord(Table):
    """The SFT rows' likelihood with a share of the objective that is scheduled, and a weight for each token."""

    mu: tuple[Share, Share] = Field(
        default=(0.1, 0.1), description="The demonstrations' share of what is minimised, at first and at the end."
    )
    warmup: NotNegative = Field(default=0, description="Updates in which the share rises to its first value.")
    phi: bool = Field(
        default=True, description="Weighs a token by p (1 - p): neither what is known nor what is out of reach."
    )


class Luffy(Table):
    """The written answer to a prompt joins its group, as an answer of another policy."""

    gamma: PositiveFloat = Field(
        default=0.1, description="The smaller, the more of the gradient goes to tokens that are unlikely so far."
    )


class Rl(Paced):
    """Reinforcement learning against a reward: the learned one, or the weighted sum of ``rewards``."""

    algorithm: (
        Literal["ppo", "grpo", "dr_grpo", "dapo", "gspo", "rloo", "reinforce++", "online_dpo", "rejection"] | PartName
    ) = Field(
        default="grpo", description="How rewards become a lesson; or an own credit function package.module:function."
    )
    rewards: tuple[RewardPart, ...] = ()
    environment: PartName | None = Field(
        default=None,
        description="An own environment package.module:function that answers the policy, turn by turn: a rollout is "
        "made of conversations, of which the policy's own tokens are trained.",
    )
    turns: Positive = Field(default=4, description="Most answers of the policy in a conversation with the environment.")
    updates: Positive = Field(
        default=12, description="Optimizer updates; a rollout has inner_epochs x minibatches of them."
    )
    prompts: Positive = Field(default=8, description="Prompts per rollout.")
    group: Positive = Field(default=8, description="Answers sampled per prompt; ppo and reinforce++ can do with 1.")
    learning_rate: PositiveFloat | Auto = Field(default="auto", description="Learning rate; auto is 3e-4.")
    inner_epochs: Positive | Auto = Field(default="auto", description="Passes over the answers of a rollout.")
    minibatches: Positive | Auto = Field(
        default="auto", description="Updates in a pass: the rollout's groups are cut into so many parts."
    )
    sampler: Literal["exact", "half", "int8", "server"] = Field(
        default="exact",
        description="What draws the answers: the model as it is; its weights rounded to 16-bit floats or to 8 bits, "
        "which takes less memory, is faster for a few answers at a time and draws from a slightly different "
        "distribution; or the server that BURNISH_SAMPLER_URL names.",
    )
    importance_cap: Annotated[float, Field(ge=1, allow_inf_nan=False)] | Auto = Field(
        default="auto",
        description="With a sampler that is not exact, each token is weighed by its probability in training over that "
        "in sampling, up to this.",
    )
    clip: tuple[PositiveFloat, PositiveFloat] | Auto = Field(
        default="auto", description="Lower and upper clip of the ratio of new to old probability."
    )
    aggregate: Literal["token", "sequence", "constant"] | Auto = Field(
        default="auto",
        description="How tokens add up: every token weighs alike; every answer does (its tokens' mean); or answers are "
        "summed and divided by evaluate.max_new_tokens (times turns, with an environment), whatever their length.",
    )
    scale: Literal["group", "batch"] | Auto = Field(
        default="auto", description="Divides advantages by their deviation within a group, or over the rollout."
    )
    kl: Annotated[float, Field(ge=0)] | Auto = Field(
        default="auto", description="Weight of KL to the start version; auto is 0.02, and 0 in dr_grpo and dapo."
    )
    kl_in: Literal["loss", "reward"] | Auto = Field(
        default="auto", description="Whether the KL is a term of the loss or taken off the reward of each token."
    )
    kl_estimator: Literal["k1", "k2", "k3"] | Auto = Field(
        default="auto",
        description="How it is estimated: auto is k3 in the loss, and k1 in the reward, where no other has the right "
        "gradient.",
    )
    kl_target: PositiveFloat | Literal["off"] | Auto = Field(
        default="auto",
        description="KL in nats per token that the weight is adapted to, rollout by rollout; the KL is in the reward.",
    )
    entropy: Annotated[float, Field(ge=0)] | Auto = Field(
        default="auto", description="Weight of the entropy, which is kept up by it."
    )
    dynamic_sampling: NotNegative | Auto = Field(
        default="auto",
        description="Times that prompts are drawn again in the place of groups whose rewards are all equal.",
    )
    overlong: Share | Auto = Field(
        default="auto",
        description="The last share of evaluate.max_new_tokens (times turns, with an environment) in which the reward "
        "falls by up to 1; 0 is off.",
    )
    gae_lambda: Share | Auto = Field(
        default="auto", description="Whom advantages trust: 0 the value function (bias), 1 the rewards (variance)."
    )
    discount: Share | Auto = Field(default="auto", description="What a reward is worth one token later.")
    value_weight: PositiveFloat | Auto = Field(default="auto", description="Weight of the value function's loss.")
    value_clip: PositiveFloat | Literal["off"] | Auto = Field(
        default="auto", description="How far a value may move in a rollout's updates."
    )
    whiten: tuple[Whitened, ...] | Auto = Field(
        default="auto",
        description="What is brought to deviation 1 over the rollout: the tokens' rewards, and advantages (to mean 0 "
        "too).",
    )
    beta: PositiveFloat | Auto = Field(
        default="auto", description="online_dpo: how far from the start a preference may lead."
    )
    watch: bool = Field(
        default=False,
        description="Trains two reward models, on halves of the votes that share neither rater nor prompt: the first "
        "is optimised, the second judges the answers to dev prompts.",
    )
    fresh_comparisons: Annotated[int, Field(ge=0, le=24)] | Auto = Field(
        default="auto",
        description="Answers to dev prompts that raters are asked to compare with the start's before each rollout, "
        "while training goes on; auto is 24 with [reward], and 0 without it or with an environment.",
    )
    stop_kl: PositiveFloat = Field(
        default=0.15, description="Stops when KL per token to the start version exceeds this."
    )
    stop_length: PositiveFloat = Field(
        default=0.3,
        description="Stops when the mean length has moved by more than this share, with its whole 95 % interval.",
    )
    stop_repetition: Share = Field(
        default=0.2, description="Stops when the share of repeated 4-grams has risen by more than this."
    )
    stop_diversity: Share = Field(
        default=0.5, description="Stops when the share of distinct 2-grams has fallen by more than this share of it."
    )
    demonstrations: Annotated[float, Field(ge=0)] | Auto = Field(
        default="auto", description="Weight of the SFT rows' likelihood inside rl (PPO-ptx)."
    )
    chord: Chord | None = None
    luffy: Luffy | None = None

    @property
    def paid(self) -> tuple[RewardPart, ...]:
        """The parts of the reward: the learned one alone where the recipe lists none."""
        return self.rewards or (RewardPart(kind="learned"),)

    @property
    def paid_by_environment(self) -> bool:
        """Whether a part of the reward is what the environment pays."""
        return any(part.kind == "environment" for part in self.rewards)

    def given(self) -> dict[str, Any]:
        """Every key that the algorithm reads with its value: the recipe's, or the algorithm's own."""
        own = dict(reads(self.algorithm))
        if self.kl_in == "reward":
            own["kl_estimator"] = "k1"
        if self.sampler == "exact":
            own.pop("importance_cap", None)
        return {key: value if (asked := getattr(self, key)) == "auto" else asked for key, value in own.items()}

    def knobs(self) -> Knobs:
        """The keys that only some algorithms read, resolved."""
        names = {field.name for field in fields(Knobs)}
        return Knobs(**{key: value for key, value in self.given().items() if key in names})

    @model_validator(mode="after")
    def parts_have_names_of_their_own(self) -> Rl:
        titles = [part.title for part in self.rewards]
        twice = next((title for title in titles if titles.count(title) > 1), None)
        if twice is not None:
            raise ValueError(f"two parts of the reward are called {twice}: give each a name")
        return self

    @model_validator(mode="after")
    def episodes_fit(self) -> Rl:
        if self.environment is None:
            if "turns" in self.model_fields_set:
                raise ValueError("turns counts answers to an environment: add environment, or take turns out")
            if self.paid_by_environment:
                raise ValueError('a part of kind "environment" is paid by an environment: add rl.environment')
            return self
        if any(part.kind == "judge" for part in self.rewards):
            raise ValueError(
                "a judge compares answers to one prompt, and an environment leads to other ones: take it out"
            )
        if self.luffy is not None:
            raise ValueError("luffy puts a written answer beside episodes, and nobody wrote one: take it out")
        if self.fresh_comparisons not in ("auto", 0):
            raise ValueError(
                "fresh_comparisons shows two answers to one prompt, and an environment leads to other ones"
            )
        return self

    @model_validator(mode="after")
    def keys_have_a_use(self) -> Rl:
        known = reads(self.algorithm)
        for key in KEYS:
            if key not in known and getattr(self, key) != default_of(self, key):
                raise ValueError(f"{key} is not read by {self.algorithm}: take it out, it reads {', '.join(known)}")
        if self.importance_cap != "auto" and self.sampler == "exact":
            raise ValueError(
                "importance_cap corrects for a sampler that is not exact, and this one is: take it out, or name another"
            )
        if self.group < 2 and self.algorithm not in ALONE:
            raise ValueError(f"a group of 1 has nothing to be compared with, and {self.algorithm} compares: group >= 2")
        knobs = self.knobs()
        if knobs.kl_in == "reward" and knobs.kl_estimator != "k1":
            raise ValueError(
                f"in the reward {knobs.kl_estimator} has not the KL's gradient: take kl_estimator out, "
                'or put the KL in the loss (kl_in = "loss")'
            )
        if knobs.kl_target != "off" and knobs.kl_in == "loss":
            raise ValueError('kl_target adapts the weight of the KL in the reward: add kl_in = "reward"')
        self._require_one_hybrid()
        if self.prompts < knobs.minibatches:
            raise ValueError(f"{self.prompts} prompts cannot be cut into {knobs.minibatches} minibatches")
        return self

    def _require_one_hybrid(self) -> None:
        """Demonstrations enter in one way, and in one that the algorithm has a place for."""
        asked = [
            name for name in ("demonstrations", "chord", "luffy") if getattr(self, name) not in ("auto", None, 0.0)
        ]
        if len(asked) > 1:
            raise ValueError(f"{asked[0]} and {asked[1]} are two ways to learn from written answers: keep one of them")
        if self.luffy is not None and self.algorithm not in CREDITS_WRITTEN:
            readers = ", ".join(sorted(CREDITS_WRITTEN))
            raise ValueError(f"luffy is not read by {self.algorithm}: it goes with {readers}")
        if self.chord is not None and "clip" not in reads(self.algorithm):
            raise ValueError(f"chord is not read by {self.algorithm}, which has no policy's loss to share with")
        if self.luffy is not None and self.aggregate == "sequence":
            raise ValueError('luffy gives drawn and written tokens one denominator: take aggregate = "sequence" out')
