"""Bugs of the objective core that the field has paid for."""

from __future__ import annotations

from mutations.case import Mutation

STREAM, TERMS = "src/burnish/objectives/stream.py", "src/burnish/objectives/terms.py"
ON_STREAM, ON_TERMS = "tests/objectives/test_stream.py::", "tests/objectives/test_terms.py::"
FLAT = "tests/models/test_flat.py::"

MUTATIONS = [
    Mutation(
        name="label shift off by one",
        file=STREAM,
        old="take.append(first + index - 1 if index else parent[1] - 1)",
        new="take.append(first + index)",
        tests=ON_STREAM + "test_three_tokens_shift_by_one",
    ),
    Mutation(
        name="first answer token predicted from the previous sibling",
        file=STREAM,
        old="take.append(first + index - 1 if index else parent[1] - 1)",
        new="take.append(first + index - 1)",
        tests=FLAT + "test_flat_is_the_plain_forward",
    ),
    Mutation(
        name="positions of a second answer go on from the first",
        file=STREAM,
        old="positions += range(depth, depth + fed)",
        new="positions += range(len(positions) - start, len(positions) - start + fed)",
        tests=FLAT + "test_flat_is_the_plain_forward",
    ),
    Mutation(
        name="masked tokens are supervised",
        file=STREAM,
        old="if weight != 0:\n                    # The one",
        new="if True:\n                    # The one",
        tests=ON_STREAM + "test_only_weighted_positions_are_supervised",
    ),
    Mutation(
        name="masked tokens are counted",
        file=STREAM,
        old="return float(sum(self.weights))",
        new="return float(len(self.weights))",
        tests=ON_STREAM + "test_units_are_summed_weights",
    ),
    Mutation(
        name="the packer drops a tree that is too long",
        file=STREAM,
        old="        waiting.append(tree)\n",
        new="        if size <= budget:\n            waiting.append(tree)\n",
        tests=ON_STREAM + "test_a_tree_is_never_cut_and_order_is_kept",
    ),
    Mutation(
        name="a missing figure is a zero",
        file=STREAM,
        old="[value is not None for value in values]",
        new="[True for value in values]",
        tests=ON_STREAM + "test_figures_that_a_row_does_not_carry_are_absent_not_zero",
    ),
    Mutation(
        name="averaged per micro-batch",
        file=TERMS,
        old="-(weights * logp_S[on]).sum()",
        new="-(weights * logp_S[on]).mean()",
        tests=ON_TERMS + "test_sums_and_counts_do_not_depend_on_how_the_batch_is_cut",
    ),
    Mutation(
        name="masked by multiplication",
        file=TERMS,
        old="-(weights * logp_S[on]).sum()",
        new="-(weights_S * logp_S).sum()",
        tests=ON_TERMS + "test_likelihood",
    ),
    Mutation(
        name="demonstrations take part in the policy loss",
        file=TERMS,
        old="weights = torch.where(stream.present.get(having, nowhere), weights, 0.0)",
        new="pass",
        tests=ON_TERMS + "test_each_term_counts_its_own_rows",
    ),
    Mutation(
        name="one clip for both sides",
        file=TERMS,
        old="ratio.clamp(1 - clip[0], 1 + clip[1])",
        new="ratio.clamp(1 - clip[0], 1 + clip[0])",
        tests=ON_TERMS + "test_policy",
    ),
    Mutation(
        name="clipping without the pessimistic bound",
        file=TERMS,
        old="-torch.minimum(ratio * advantage, bounded * advantage)",
        new="-bounded * advantage",
        tests=ON_TERMS + "test_policy",
    ),
    Mutation(
        name="a KL term without gradient",
        file=TERMS,
        old="ratio * difference * (logp - fixed)",
        new="ratio * difference * (fixed - fixed)",
        tests=ON_TERMS + "test_kl_values",
    ),
    Mutation(
        name="k3 in the loss descends the other direction's KL",
        file=TERMS,
        old="ratio * difference * (logp - fixed)",
        new="ratio * -torch.expm1(-difference) * (logp - fixed)",
        tests=ON_TERMS + "test_kl_gradient_is_that_of_the_closed_form",
    ),
    Mutation(
        name="KL of an older policy's samples without its ratio",
        file=TERMS,
        old="torch.ones_like(fixed) if old_logp_S is None else (fixed - old_logp_S[on]).exp()",
        new="torch.ones_like(fixed)",
        tests=ON_TERMS + "test_kl_gradient_is_that_of_the_closed_form",
    ),
    Mutation(
        name="hinge silently trains sigmoid",
        file=TERMS,
        old='if kind == "sigmoid":',
        new="if True:",
        tests=ON_TERMS + "test_preference_margin",
    ),
    Mutation(
        name="a tie counts as a loss",
        file=TERMS,
        old="(1 - preference_N) * F.logsigmoid(-difference)",
        new="(preference_N == 0) * F.logsigmoid(-difference)",
        tests=ON_TERMS + "test_pairwise",
    ),
    Mutation(
        name="an entropy term without gradient",
        file=TERMS,
        old="return TermResult(-total, {",
        new="return TermResult(-total.detach().requires_grad_(), {",
        tests=ON_TERMS + "test_entropy",
    ),
]
