"""Bugs of the fast layer and of kept hidden states: each would train something else, a little faster."""

from __future__ import annotations

from mutations.case import Mutation

LAYER, LANGUAGE = "src/burnish/models/layer.py", "src/burnish/models/language.py"
BOUNDARIES, GC = "src/burnish/training/boundaries.py", "src/burnish/store/gc.py"
ON_LAYER, ON_BOUNDARIES = "tests/models/test_layer.py::test_", "tests/training/test_boundaries.py::test_"

MUTATIONS = [
    Mutation(
        "the adapter's share of the input gradient is left out",
        LAYER,
        "                x_grad_TD.addmm_(slope_TR, self.A_RD)\n",
        "                pass\n",
        ON_LAYER + "output_and_adapter_gradients",
    ),
    Mutation(
        "the adapters' scale is lost in the backward",
        LAYER,
        "slopes = [(grad @ product.B_OR).mul_(product.scale)",
        "slopes = [(grad @ product.B_OR)",
        ON_LAYER + "output_and_adapter_gradients",
    ),
    Mutation(
        "the norm is taken for a constant factor",
        LAYER,
        "x_grad_TD.addcmul_(plain_TD, along_T1, value=-1).mul_(inverse_T1)",
        "x_grad_TD.mul_(inverse_T1)",
        ON_LAYER + "output_and_adapter_gradients",
    ),
    Mutation(
        "the gradient of the gate is that of a plain product",
        LAYER,
        "torch.ops.aten.silu_backward(torch.mul(x_grad_TD, x_TD, out=value_TD), gate_TD)",
        "torch.mul(x_grad_TD, x_TD, out=value_TD)",
        ON_LAYER + "output_and_adapter_gradients",
    ),
    Mutation(
        "the backward turns positions the same way as the forward",
        LAYER,
        "sign = x_THE.shape[-1] // 2, -1 if back else 1",
        "sign = x_THE.shape[-1] // 2, 1",
        ON_LAYER + "output_and_adapter_gradients",
    ),
    Mutation(
        "a bias is forgotten",
        LAYER,
        "                output += bias_O\n",
        "                pass\n",
        ON_LAYER + "gradients_of_weights_biases_and_norms",
    ),
    Mutation(
        "a layer of another form runs the fast path",
        LAYER,
        "    if kinds:\n",
        "    if False:\n",
        ON_LAYER + "a_layer_of_another_form_runs_as_it_is",
    ),
    Mutation(
        "the last layer leaves out the wrong positions",
        LAYER,
        "hidden_TD[take_S], mixed_TD[take_S]",
        "hidden_TD[take_S], mixed_TD[take_S - 1]",
        ON_LAYER + "positions_that_nothing_reads_are_left_out",
    ),
    Mutation(
        "kept states above the last layer are not cut to the positions that are read",
        LANGUAGE,
        "if take_S is not None and first == depth:",
        "if False:",
        ON_LAYER + "hidden_states_of_some_positions_are_those_of_all",
    ),
    Mutation(
        "a copy runs its layers as the original's form asked",
        LANGUAGE,
        'for cached in ("_twin", "_fast"):',
        'for cached in ("_twin",):',
        ON_LAYER + "each_layer_of_a_model_runs_as_its_form_asks",
    ),
    Mutation(
        "even streams cost a stream more",
        "src/burnish/objectives/stream.py",
        "_streams(sizes, tokens) <= most)",
        "_streams(sizes, tokens) <= most + 1)",
        "tests/objectives/test_stream.py::test_streams_of_a_window_are_of_nearly_the_same_length",
    ),
    Mutation(
        "kept states of a row serve another that is cut elsewhere",
        BOUNDARIES,
        'hashlib.sha256(f"{stops} ".encode() + ',
        "hashlib.sha256(",
        ON_BOUNDARIES + "a_prompt_with_other_answers_is_another_row",
    ),
    Mutation(
        "kept states of other weights are used",
        BOUNDARIES,
        "[source, first], model",
        "[first], model",
        ON_BOUNDARIES + "what_is_kept_is_not_computed_again_and_other_weights_are",
    ),
    Mutation(
        "kept states fill the disk",
        BOUNDARIES,
        "if not make_room(folder, need, most):",
        "if False:",
        ON_BOUNDARIES + "the_states_used_longest_ago_make_room",
    ),
    Mutation(
        "a copy of a model uses the states of the original",
        LANGUAGE,
        "twin.checkpointing, twin.kept, twin.trail = False, None, None",
        "twin.checkpointing, twin.trail = False, None",
        "tests/models/test_reward.py::test_a_copy_keeps_nothing",
    ),
    Mutation(
        "checkpoints of unfinished work are deleted",
        GC,
        "        if work.name in done:\n",
        "        if work.is_dir():\n",
        "tests/store/test_gc.py::test_finished_work_keeps_its_log_and_unfinished_work_everything",
    ),
]
