"""Bugs of precision and of devices: numbers that lose their bits, and tensors that lie elsewhere than the model."""

from __future__ import annotations

from mutations.case import Mutation

MODELS, TRAINING = "src/burnish/models/", "src/burnish/training/"
ON_PLACE = "tests/training/test_place.py::test_"
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
]
