"""TRL's side of the benchmarks of training: the same rows, the same LoRA, the same update of 8 rows.

    python trl_side.py {sft,dpo,reward,frozen,grpo} --model DIR --pairs PAIRS.jsonl [--micro-batch 1] [--checkpointing]
                       [--updates 8] [--prompts 4] [--generated 32]

Needs trl==1.16.0 and peft in an environment of its own; Burnish does not depend on them. "frozen" is sft with LoRA on
the last 4 layers for three epochs. "grpo" is --prompts x 8 answers of exactly 48 tokens an update, the first 16
prompts in their order, --generated of the answers drawn at once. Prints one JSON line: the seconds of each update (of
grpo also those of its parts) and peak resident memory.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

ROWS_PER_UPDATE = 8
PROMPTS, GROUP, NEW, KL = 16, 8, 48, 0.04  # of grpo
FROZEN_LAYERS, FROZEN_EPOCHS = 4, 3

parser = argparse.ArgumentParser()
parser.add_argument("what", choices=["sft", "dpo", "reward", "frozen", "grpo"])
parser.add_argument("--model", required=True)
parser.add_argument("--pairs", required=True)
parser.add_argument("--updates", type=int, default=8)
parser.add_argument("--micro-batch", type=int, default=1)
parser.add_argument("--checkpointing", action="store_true")
parser.add_argument("--max-length", type=int, default=1024)
parser.add_argument("--prompts", type=int, default=4)
parser.add_argument("--generated", type=int, default=4 * GROUP)
a = parser.parse_args()
torch.manual_seed(0)
tokenizer = AutoTokenizer.from_pretrained(a.model)
rows = []
for line in Path(a.pairs).read_text(encoding="utf-8").splitlines():
    row = json.loads(line)
    chosen, rejected = ([{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected"))
    rows.append({"prompt": row["prompt"], "chosen": chosen, "rejected": rejected})
seconds, parts = [], {"sampling": [], "reference": []}


class Clock(TrainerCallback):
    def on_step_begin(self, *_, **__):
        self.start = time.perf_counter()
        for spent in parts.values():
            spent.append(0.0)

    def on_step_end(self, *_, **__):
        seconds.append(round(time.perf_counter() - self.start, 2))


def timed(part, work, counts=lambda: True):
    """The same function, whose seconds are added to a part of the update."""

    def run(*given, **named):
        began = time.perf_counter()
        done = work(*given, **named)
        if counts() and parts[part]:
            parts[part][-1] = round(parts[part][-1] + time.perf_counter() - began, 2)
        return done

    return run


def variety(completions, **_):
    """The number of different words of each answer."""
    return [float(len(set(completion[0]["content"].split()))) for completion in completions]


rows_per_update = a.prompts * GROUP if a.what == "grpo" else ROWS_PER_UPDATE
epochs = FROZEN_EPOCHS if a.what == "frozen" else 1
settings = {
    "output_dir": tempfile.mkdtemp(),
    "per_device_train_batch_size": a.micro_batch,
    "gradient_accumulation_steps": rows_per_update // a.micro_batch,
    "num_train_epochs": epochs,
    "max_steps": a.updates if a.what == "grpo" else min(a.updates, epochs * len(rows) // ROWS_PER_UPDATE),
    "report_to": [],
    "logging_steps": 1,
    "save_strategy": "no",
    "use_cpu": not torch.cuda.is_available(),
    "bf16": torch.cuda.is_available(),
    "disable_tqdm": True,
    "gradient_checkpointing": a.checkpointing,
    "learning_rate": 1e-4,
}
lora = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"}
if a.what == "reward":
    model = AutoModelForSequenceClassification.from_pretrained(a.model, num_labels=1, dtype=torch.float32)
    lora["task_type"] = "SEQ_CLS"
else:
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    lora["task_type"] = "CAUSAL_LM"
if a.what == "frozen":
    depth = model.config.num_hidden_layers
    lora |= {"layers_to_transform": list(range(depth - FROZEN_LAYERS, depth)), "layers_pattern": "layers"}
    lora["target_modules"] = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj".split()
given = {}
if a.what == "grpo":
    from trl import GRPOConfig as Config
    from trl import GRPOTrainer as Trainer

    rows, given = [{"prompt": row["prompt"]} for row in rows[:PROMPTS]], {"reward_funcs": variety}
    settings |= {"max_completion_length": NEW, "generation_kwargs": {"min_new_tokens": NEW}, "beta": KL}
    settings |= {"num_generations": GROUP, "generation_batch_size": a.generated, "shuffle_dataset": False}
else:
    settings["max_length"] = a.max_length
if a.what == "dpo":
    from trl import DPOConfig as Config
    from trl import DPOTrainer as Trainer
elif a.what == "reward":
    from trl import RewardConfig as Config
    from trl import RewardTrainer as Trainer
elif a.what != "grpo":
    from trl import SFTConfig as Config
    from trl import SFTTrainer as Trainer

    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
trainer = Trainer(
    model,
    args=Config(**settings),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
    peft_config=LoraConfig(**lora),
    callbacks=[Clock()],
    **given,
)
if a.what == "grpo":
    trainer._generate = timed("sampling", trainer._generate)
    read = trainer._get_per_token_logps_and_entropies
    trainer._get_per_token_logps_and_entropies = timed("reference", read, lambda: not torch.is_grad_enabled())
trainer.train()
print(
    json.dumps(
        {
            "what": a.what,
            "micro_batch": a.micro_batch,
            "checkpointing": a.checkpointing,
            "updates": seconds,
            **(parts if a.what == "grpo" else {}),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    )
)
