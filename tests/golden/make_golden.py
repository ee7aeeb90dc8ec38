"""Makes trl.json: losses and gradients that TRL 1.16's own code gives on a tiny random model.

    python -m venv trl && trl/bin/pip install torch==2.13.0 transformers==5.23.0 trl==1.16.0 peft==0.21.2
    trl/bin/python tests/golden/make_golden.py

TRL's packages are no dependency of Burnish, and nothing here repeats one of its formulas: each case builds the trainer
from its own config, takes a batch from its own data loader and calls its own loss. Written down are, per answer, the
logprobs of its tokens under the policy and the reference, the loss, and its gradient with respect to each logprob:

- where TRL's model output holds logprobs ("log_probs": DPO, KTO, SFT), they keep their gradient;
- where it holds logits (CPO, ORPO), the gradient with respect to a logprob is that of the target's logit over
  1 - p(target): these losses see the logits through the targets' log-softmax alone, whose gradient is g (onehot - p);
- GRPO's logprobs come from its own method, which is called through and keeps the gradient; old and reference logprobs,
  advantages and masks are inputs of its loss;
- the reward trainer's rewards are its model's logits; distillation's hidden states are random tensors.

TRL 1.16 offers label smoothing of the logistic loss only without a reference (CPO): in that case the reference is 0.
Shares of votes, ties and votes have no counterpart in TRL, nor have hinge, IPO and ORPO with label smoothing, or a
teacher's most likely tokens: their tests are computed by hand.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
)
from trl import (
    DPOConfig,
    DPOTrainer,
    GRPOConfig,
    GRPOTrainer,
    KTOConfig,
    KTOTrainer,
    RewardConfig,
    RewardTrainer,
    SFTConfig,
    SFTTrainer,
)
from trl import __version__ as version
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.gkd import GKDTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer
from trl.trainer.distillation_trainer import _chunked_divergence_loss

WORDS = [*"abcdefghijklmnopqrstuvwxyz", "<pad>", "<eos>"]
# One word each as prompt: ORPO's likelihood covers the prompt too, and the first token is never predicted.
PAIRS = {
    "prompt": ["a", "k", "z"],
    "chosen": [" b c d", " l m", " y x w v u"],
    "rejected": [" e f", " n o p q", " t"],
}
MARGINS = [0.5, 0.0, 2.0]
THUMBS = {
    "prompt": ["a", "k b", "z", "c d e"],
    "completion": [" b c d", " l m", " y x w v u", " g"],
    "label": [True, False, True, True],
}


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", padding_side="left")


def config(**other: Any) -> LlamaConfig:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaConfig(vocab_size=len(WORDS), initializer_range=0.4, pad_token_id=26, eos_token_id=27, **sizes, **other)


def model(seed: int, kind: type = LlamaForCausalLM, **other: Any) -> Any:
    torch.manual_seed(seed)
    return kind(config(**other)).float()


def built(trainer: type, arguments: type, rows: dict[str, list[Any]], settings: dict[str, Any], **parts: Any) -> Any:
    common = {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": len(rows["prompt"]) if "prompt" in rows else 3,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }
    parts = {"model": model(1), **parts}
    return trainer(
        args=arguments(**{**common, **settings}),
        train_dataset=Dataset.from_dict(rows),
        processing_class=tokenizer(),
        **parts,
    )


def tap(module: torch.nn.Module, name: str) -> list[torch.Tensor]:
    """The named outputs of every forward of ``module``, with their gradient kept."""
    seen: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: Any, output: Any) -> None:
        found = getattr(output, name)
        if found.requires_grad:
            found.retain_grad()
        seen.append(found)

    module.register_forward_hook(keep)
    return seen


def of_rows(values_BL: torch.Tensor, mask_BL: torch.Tensor) -> list[list[float]]:
    return [row[on.bool()].tolist() for row, on in zip(values_BL.detach(), mask_BL, strict=True)]


def loss_of(trainer: Any) -> tuple[float, dict[str, torch.Tensor]]:
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, dict(batch))
    loss.backward()
    return loss.item(), batch


def as_answers(**figures: list[list[float]]) -> list[dict[str, list[float]]]:
    return [dict(zip(figures, values, strict=True)) for values in zip(*figures.values(), strict=True)]


def halves(answers: list[Any]) -> list[list[Any]]:
    """TRL's batch is all chosen, then all rejected."""
    return [list(pair) for pair in zip(answers[: len(answers) // 2], answers[len(answers) // 2 :], strict=True)]


def dpo(**settings: Any) -> dict[str, Any]:
    reference = model(2)
    trainer = built(DPOTrainer, DPOConfig, PAIRS, settings, ref_model=reference)
    policy_logp, reference_logp = tap(trainer.model, "log_probs"), tap(trainer.ref_model, "log_probs")
    loss, batch = loss_of(trainer)
    mask = batch["completion_mask"][:, 1:]
    assert policy_logp[0].grad is not None
    answers = as_answers(
        logp=of_rows(policy_logp[0], mask),
        reference_logp=of_rows(reference_logp[0], mask),
        gradient=of_rows(policy_logp[0].grad, mask),
    )
    return {"loss": loss, "pairs": halves(answers)}


def reference_free(trainer: type, arguments: type, **settings: Any) -> dict[str, Any]:
    made = built(trainer, arguments, PAIRS, settings)
    tapped = tap(made.model, "logits")
    loss, batch = loss_of(made)
    together = made.concatenated_inputs(batch)
    labels = together["concatenated_labels"][:, 1:]
    logits, gradient = tapped[0][:, :-1].detach(), tapped[0].grad[:, :-1]
    mask, targets = labels != -100, labels.clamp(min=0)[..., None]
    logp = logits.log_softmax(-1).gather(-1, targets)[..., 0]
    slope = gradient.gather(-1, targets)[..., 0] / -torch.expm1(logp)
    answers = as_answers(logp=of_rows(logp, mask), gradient=of_rows(slope, mask))
    return {"loss": loss, "pairs": halves(answers)}


def kto(**settings: Any) -> dict[str, Any]:
    trainer = built(KTOTrainer, KTOConfig, THUMBS, settings, ref_model=model(2))
    policy_logp, reference_logp = tap(trainer.model, "log_probs"), tap(trainer.ref_model, "log_probs")
    loss, batch = loss_of(trainer)
    # Each model runs the mismatched rows first, then the judged ones.
    mask, other = batch["completion_mask"][:, 1:], batch["KL_completion_mask"][:, 1:]
    rows = as_answers(
        logp=of_rows(policy_logp[1], mask),
        reference_logp=of_rows(reference_logp[1], mask),
        gradient=of_rows(policy_logp[1].grad, mask),
    )
    mismatched = as_answers(logp=of_rows(policy_logp[0], other), reference_logp=of_rows(reference_logp[0], other))
    labels = [float(label) for label in batch["label"]]
    return {"loss": loss, "labels": labels, "answers": rows, "mismatched": mismatched}


def sft() -> dict[str, Any]:
    rows = {"prompt": THUMBS["prompt"], "completion": THUMBS["completion"]}
    trainer = built(SFTTrainer, SFTConfig, rows, {"completion_only_loss": True})
    tapped = tap(trainer.model, "log_probs")
    loss, batch = loss_of(trainer)
    mask = batch["labels"][:, 1:] != -100
    return {"loss": loss, "answers": as_answers(logp=of_rows(tapped[0], mask), gradient=of_rows(tapped[0].grad, mask))}


def reward(margins: bool) -> dict[str, Any]:
    rows: dict[str, list[Any]] = {
        side: [p + answer for p, answer in zip(PAIRS["prompt"], PAIRS[side], strict=True)]
        for side in ("chosen", "rejected")
    }
    if margins:
        rows["margin"] = MARGINS
    head = model(1, LlamaForSequenceClassification, num_labels=1)
    trainer = built(RewardTrainer, RewardConfig, rows, {}, model=head)
    tapped = tap(trainer.model, "logits")
    loss, batch = loss_of(trainer)
    margin = batch["margin"].tolist() if margins else [0.0] * 3
    scores, gradient = tapped[0].flatten().tolist(), tapped[0].grad.flatten().tolist()
    return {"loss": loss, "scores": halves(scores), "gradient": halves(gradient), "margins": margin}


def grpo(loss_type: str, **settings: Any) -> dict[str, Any]:
    """Two prompts, two answers each; a batch of its own, since TRL's comes out of its sampler."""
    folder = tempfile.mkdtemp()  # TRL loads its reference from the model's own folder
    model(1).save_pretrained(folder)
    given = {"loss_type": loss_type, "num_generations": 2, "max_completion_length": 8, "epsilon_high": 0.28, **settings}
    trainer = built(
        GRPOTrainer,
        GRPOConfig,
        {"prompt": ["a", "k b", "z", "c"]},
        given,
        model=LlamaForCausalLM.from_pretrained(folder),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
    )
    torch.manual_seed(3)
    lengths, longest = torch.tensor([4, 2, 5, 1]), 5
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    kept: list[torch.Tensor] = []
    inside = trainer._get_per_token_logps_and_entropies

    def keep(*args: Any, **kwargs: Any) -> Any:
        found = inside(*args, **kwargs)
        found[0].retain_grad()
        kept.append(found[0])
        return found

    trainer._get_per_token_logps_and_entropies = keep
    prompts, completions = torch.randint(26, (4, 3)), torch.randint(26, (4, longest))
    with torch.no_grad():
        ids, seen = torch.cat([prompts, completions], 1), torch.cat([torch.ones_like(prompts), mask], 1)
        logp = inside(trainer.model, ids, seen, longest, compute_entropy=True)[0]
    batch = {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": completions,
        "completion_mask": mask,
        "advantages": torch.tensor([1.0, -1.0, 0.7, -0.7]),
        "old_per_token_logps": logp + 0.4 * torch.randn(logp.shape),  # ratios on both sides of the clip
        "ref_per_token_logps": logp + 0.5 * torch.randn(logp.shape),
        "num_items_in_batch": mask.sum().float(),
    }
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    trainer.args.steps_per_generation = 1
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    answers = as_answers(
        logp=of_rows(kept[0], mask),
        old_logp=of_rows(batch["old_per_token_logps"], mask),
        reference_logp=of_rows(batch["ref_per_token_logps"], mask),
        gradient=of_rows(kept[0].grad, mask),
    )
    return {"loss": loss.item(), "advantages": batch["advantages"].tolist(), "answers": answers}


def distillation(temperature: float) -> dict[str, Any]:
    """Forward KL of a wider teacher: TRL's chunked loss on hidden states, and its plain one on the same logits."""
    torch.manual_seed(4)
    hidden = torch.randn(7, 6, requires_grad=True)
    teacher, head, teacher_head = torch.randn(7, 5), torch.randn(11, 6), torch.randn(11, 5)
    mask = torch.ones(1, 7)
    loss, _, _ = _chunked_divergence_loss(
        hidden[None], teacher[None], head, teacher_head, mask, 0.0, temperature=temperature
    )
    loss.backward()
    plain = GKDTrainer.generalized_jsd_loss(
        (hidden @ head.T)[None], (teacher @ teacher_head.T)[None], torch.zeros(1, 7).long(), 0.0, temperature
    )
    tensors = {"hidden": hidden.detach(), "head": head, "teacher_hidden": teacher, "teacher_head": teacher_head}
    return {
        "temperature": temperature,
        "loss": loss.item(),
        "plain_loss": plain.item(),
        "gradient": hidden.grad.tolist(),
        **{name: tensor.tolist() for name, tensor in tensors.items()},
    }


def main() -> None:
    torch.set_num_threads(1)
    cases = {
        "dpo": {"beta": 0.3, **dpo(loss_type="sigmoid", beta=0.3)},
        "hinge": {"beta": 0.3, **dpo(loss_type="hinge", beta=0.3)},
        "ipo": {"beta": 0.3, **dpo(loss_type="ipo", beta=0.3)},
        "robust": {
            "beta": 0.3,
            "label_smoothing": 0.15,
            **dpo(loss_type="robust", beta=0.3, label_smoothing=0.15),
        },
        "dpo with sft": {
            "beta": 0.3,
            "sft": 0.7,
            **dpo(loss_type=["sigmoid", "sft"], loss_weights=[1.0, 0.7], beta=0.3),
        },
        "cpo with label smoothing": {
            "beta": 0.3,
            "label_smoothing": 0.15,
            "sft": 1.0,
            **reference_free(CPOTrainer, CPOConfig, loss_type="sigmoid", beta=0.3, label_smoothing=0.15),
        },
        "cpo hinge": {
            "beta": 0.3,
            "sft": 0.5,
            **reference_free(CPOTrainer, CPOConfig, loss_type="hinge", beta=0.3, cpo_alpha=0.5),
        },
        "simpo": {
            "beta": 1.5,
            "gamma": 0.6,
            **reference_free(CPOTrainer, CPOConfig, loss_type="simpo", beta=1.5, simpo_gamma=0.6, cpo_alpha=0.0),
        },
        "simpo with label smoothing": {
            "beta": 1.5,
            "gamma": 0.6,
            "label_smoothing": 0.15,
            "sft": 0.5,
            **reference_free(
                CPOTrainer,
                CPOConfig,
                loss_type="simpo",
                beta=1.5,
                simpo_gamma=0.6,
                label_smoothing=0.15,
                cpo_alpha=0.5,
            ),
        },
        "orpo": {"beta": 0.4, **reference_free(ORPOTrainer, ORPOConfig, beta=0.4)},
        "kto": {
            "beta": 0.3,
            "desirable": 1.2,
            "undesirable": 0.8,
            **kto(loss_type="kto", beta=0.3, desirable_weight=1.2, undesirable_weight=0.8),
        },
        "likelihood": sft(),
        "bradley-terry": reward(margins=False),
        "bradley-terry with margins": reward(margins=True),
        "grpo": grpo("grpo"),
        "dapo": grpo("dapo"),
        "dr_grpo": {"length": 8, **grpo("dr_grpo")},
        "dapo with kl": {"kl": 0.2, **grpo("dapo", beta=0.2, use_bias_correction_kl=True)},
        "distillation": distillation(1.0),
        "distillation at temperature 2": distillation(2.0),
    }
    target = Path(__file__).with_name("trl.json")
    made_with = {"trl": version, "torch": torch.__version__}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    target.write_text(f'{{"made with": {json.dumps(made_with)}, "cases": {{\n{lines}\n}}}}\n', encoding="utf-8")
    print(f"{target}: {len(cases)} cases")


if __name__ == "__main__":
    main()
