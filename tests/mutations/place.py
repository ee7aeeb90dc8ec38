"""Bugs of precision and of devices: numbers that lose their bits, and tensors that lie elsewhere than the model."""

from __future__ import annotations

from mutations.case import Mutation

MODELS, TRAINING = "src/burnish/models/", "src/burnish/training/"
ON_PLACE = "tests/training/test_place.py::test_"
ELSEWHERE = "tests/training/test_elsewhere.py::test_a_device_that_is_not_the_hosts_trains_the_same"
IN_BFLOAT16 = ON_PLACE + "bfloat16_learns_as_float32_does_and_resumes_with_the_same_bits"

MUTATIONS = [
    Mutation(
        "what is trained is held in bfloat16, where small updates vanish",
        MODELS + "language.py",
        "weights.recast(self.module, names, torch.float32)",
        "pass",
        IN_BFLOAT16,
    ),
    Mutation(
        "logprobs are made of bfloat16",
        MODELS + "place.py",
        "return tensor.float() if tensor.dtype == torch.bfloat16 else tensor",
        "return tensor",
        ON_PLACE + "what_is_said_of_an_answer_is_float32",
    ),
    Mutation(
        "the dtype of the host is not heard",
        MODELS + "language.py",
        "dtype=dtype,",
        "dtype=torch.float32,",
        IN_BFLOAT16,
    ),
    Mutation(
        "logprobs of a reference in another dtype are used",
        TRAINING + "remembered.py",
        "torch.__version__, str(model.device), str(model.dtype)]",
        "torch.__version__]",
        ON_PLACE + "what_is_kept_of_a_reference_is_of_its_dtype",
    ),
    Mutation(
        "full weights that were trained come back rounded",
        MODELS + "weights.py",
        "tensor.to(here[name].device, torch.float32)",
        "tensor.to(here[name].device, here[name].dtype)",
        ON_PLACE + "what_is_saved_is_float32_and_comes_back_so",
    ),
    Mutation(
        "rewards that were saved in bfloat16 are compared with nothing",
        MODELS + "artifacts.py",
        "_coarser(SCORED, body, parent)",
        "_coarser(LOADED, body, parent)",
        ON_PLACE + "a_version_and_its_reward_model_come_back_in_either_dtype",
    ),
    Mutation(
        "a reward head is made on the host",
        MODELS + "reward.py",
        "torch.zeros(len(names), trunk.head.shape[1], device=trunk.device)",
        "torch.zeros(len(names), trunk.head.shape[1])",
        ELSEWHERE + "[reward]",
    ),
    Mutation(
        "a value head is made on the host",
        MODELS + "value.py",
        "torch.zeros(policy.head.shape[1], device=policy.device)",
        "torch.zeros(policy.head.shape[1])",
        ELSEWHERE + "[ppo]",
    ),
    Mutation(
        "an adapter stays on the host",
        MODELS + "attaching.py",
        "lora_A.to(base.weight.device), lora_B.to(base.weight.device)",
        "lora_A, lora_B",
        ELSEWHERE + "[sft]",
    ),
    Mutation(
        "a mask is made on the host",
        MODELS + "attention.py",
        "torch.ones(length, depth + length, dtype=torch.bool, device=query.device)",
        "torch.ones(length, depth + length, dtype=torch.bool)",
        ELSEWHERE + "[dpo]",
    ),
    Mutation(
        "logprobs stay on the device, where the terms are not",
        MODELS + "language.py",
        "Outputs(stream.here(found.logp_S)",
        "Outputs(found.logp_S",
        ELSEWHERE + "[sft]",
    ),
    Mutation(
        "a teacher's tokens stay on the host",
        MODELS + "distillation.py",
        "Top(self.model.here(top.ids), self.model.here(top.logp))",
        "top",
        ELSEWHERE,
    ),
    Mutation(
        "a resumed optimizer stays on the host",
        TRAINING + "optimizer.py",
        'value if slot == "step" else value.to(self.parameters[name].device)',
        "value",
        ELSEWHERE + "[sft]",
    ),
    Mutation(
        "the sampler's positions are made on the host",
        "src/burnish/sampling/cache.py",
        "self.positions_T = torch.tensor(self.positions, device=device)",
        "self.positions_T = torch.tensor(self.positions)",
        ELSEWHERE + "[grpo]",
    ),
]
