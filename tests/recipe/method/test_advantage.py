"""The advantage as a list of terms: what Eq. 5 and 12 and Appendix A promise, and what must never go wrong."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from recipe.mer_r1.method.advantage import Term, TermError, check_terms, combine, describe, proposition_1, whiten

NAN = float("nan")
R, P = Term({"recall": 1.0}), Term({"precision": 1.0})
MER_R1 = [
    R,
    P,
    Term({"calib_pos": 1.0}, 0.1),
    Term({"calib_neg": 1.0}, 0.1),
    Term({"format": 1.0}, 0.1),
]
SIGNALS = ("recall", "precision", "calib_pos", "calib_neg", "format")

rewards = st.sampled_from([0.0, 1 / 3, 0.5, 0.6, 2 / 3, 1.0])
gaps = st.floats(-20, 20, width=32) | st.just(NAN)
responses = st.tuples(st.integers(0, 3), rewards, rewards, gaps, gaps, st.sampled_from([0.0, 1.0]))
batches = st.lists(responses, min_size=1, max_size=16)


def tensors(batch):
    """(signals, group) of a list of responses."""
    columns = list(zip(*batch, strict=True))
    return {name: torch.tensor(values) for name, values in zip(SIGNALS, columns[1:], strict=True)}, list(columns[0])


def one(values, group=None, term=None):
    """The advantage of a single signal."""
    values = torch.tensor(values, dtype=torch.float64)
    return combine({"x": values}, [0] * len(values) if group is None else group, [term or Term({"x": 1.0})])[
        "advantage"
    ]


def slowly(signals, group, terms, eps=1e-6):
    """Eq. 12 response by response in plain Python; undefined signals as the module says."""
    total = [0.0] * len(group)
    for term in terms:
        sums = []
        for i in range(len(group)):
            parts = [factor * signals[name][i].item() for name, factor in term.signals.items()]
            parts = [part for part in parts if not math.isnan(part)]
            sums.append(sum(parts) if parts else NAN)
        for i, label in enumerate(group):
            members = [sums[j] for j in range(len(group)) if group[j] == label and not math.isnan(sums[j])]
            if math.isnan(sums[i]) or len(members) < 2 or max(members) == min(members):
                continue
            mean = sum(members) / len(members)
            std = math.sqrt(sum((value - mean) ** 2 for value in members) / (len(members) - 1))
            total[i] += term.weight * (sums[i] - mean) / (std + eps)
    return total


# --- what a term is ---


@pytest.mark.parametrize(
    ("terms", "named"),
    [
        ([], "no terms"),
        ("recall", "terms must be a list"),
        (None, "terms must be a list"),
        (["recall"], "term 1 is 'recall'"),
        ([{}], "at least one signal"),
        ([{"signals": {}}], "at least one signal"),
        ([{"signals": ["recall"]}], "each signal needs a factor"),
        ([{"signals": {"recall": 1.0}}, {"signal": {"recall": 1.0}}], r"term 2 has unknown keys \['signal'\]"),
        ([{"signals": {"recall": 1.0}, "wieght": 0.1}], r"\['wieght'\]"),
        ([{"signals": {"recall": "0.1"}}], "recall is '0.1'"),
        ([{"signals": {"recall": True}}], "recall is True"),
        ([{"signals": {"recall": math.inf}}], "not a finite number"),
        ([{"signals": {"recall": 1.0}, "weight": NAN}], "weight is nan"),
        ([{"signals": {"recall": 1.0}}, {"signals": {"recall": 2.0}}], "two terms have the same signals"),
        ([{"signals": {"advantage": 1.0}}], "cannot have the name advantage"),
    ],
)
def test_what_is_no_list_of_terms_is_said(terms, named):
    with pytest.raises(TermError, match=named):
        Term.from_config(terms)


def test_a_term_is_named_by_its_signals():
    terms = Term.from_config([{"signals": {"recall": 1, "format": 0.1}, "weight": 2}, {"signals": {"f1": 1.0}}])
    assert [(term.name, term.weight) for term in terms] == [("recall+format", 2), ("f1", 1.0)]


@pytest.mark.parametrize(("name", "hint"), [("recal", "did you mean recall"), ("zzz", "use one of format, recall")])
def test_an_unknown_signal_gets_a_hint(name, hint):
    check_terms([R], ["recall", "format"])
    with pytest.raises(TermError, match=f"unknown signal '{name}': {hint}"):
        check_terms([R, Term({name: 1.0})], ["recall", "format"])


# --- what must hold for every batch ---


@given(batches)
def test_it_is_equation_12(batch):
    signals, group = tensors(batch)
    found = combine(signals, group, MER_R1)["advantage"]
    assert found.tolist() == pytest.approx(slowly(signals, group, MER_R1), abs=1e-4)


@given(batches)
def test_nothing_undefined_leaks_and_the_entries_sum_to_the_advantage(batch):
    signals, group = tensors(batch)
    for terms in (MER_R1, [Term(dict.fromkeys(SIGNALS, 1.0))], [Term({"recall": 1.0, "calib_pos": 0.1}), P]):
        found = combine(signals, group, terms)
        assert set(found) == {"advantage", *(term.name for term in terms)}
        assert all(values.isfinite().all() and values.dtype == torch.float32 for values in found.values())
        parts = torch.stack([found[term.name] for term in terms]).double().sum(0)
        torch.testing.assert_close(found["advantage"].double(), parts, atol=1e-5, rtol=0)
        assert all(math.isfinite(value) for value in describe(signals, group, terms, found).values())


@given(batches, st.randoms(use_true_random=False))
def test_the_order_of_the_batch_does_not_matter(batch, random):
    order = list(range(len(batch)))
    random.shuffle(order)
    before, after = (combine(*tensors(rows), MER_R1) for rows in (batch, [batch[i] for i in order]))
    for name, values in before.items():
        torch.testing.assert_close(after[name], values[order], atol=1e-6, rtol=1e-5)


@given(batches, st.floats(0.1, 100), st.floats(-100, 100))
def test_shifting_or_scaling_one_signal_changes_nothing(batch, scale, shift):
    signals, group = tensors(batch)
    signals = {name: values.double() for name, values in signals.items()}
    before = combine(signals, group, MER_R1, eps=0)["advantage"]
    # In eighths, so that equal values stay equal and different ones apart.
    scale, shift = (max(1, round(8 * scale)) / 8, round(8 * shift) / 8)
    for name in SIGNALS:
        spread = (signals[name][:, None] - signals[name]).abs()
        assume(not ((spread > 0) & (spread < 1e-3)).any())
        changed = {**signals, name: scale * signals[name] + shift}
        torch.testing.assert_close(combine(changed, group, MER_R1, eps=0)["advantage"], before, atol=1e-6, rtol=1e-6)


@given(batches)
def test_a_group_is_judged_by_itself(batch):
    """Interleaved groups of any size give what each gives alone."""
    together = combine(*tensors(batch), MER_R1)
    for label in {row[0] for row in batch}:
        rows = [index for index, row in enumerate(batch) if row[0] == label]
        alone = combine(*tensors([batch[index] for index in rows]), MER_R1)
        for name, values in alone.items():
            torch.testing.assert_close(values, together[name][rows], atol=1e-6, rtol=1e-5)


@given(batches)
def test_every_term_has_mean_zero_in_every_group(batch):
    signals, group = tensors(batch)
    found = combine(signals, group, MER_R1)
    for label in set(group):
        members = torch.tensor([value == label for value in group])
        for term in MER_R1:
            assert found[term.name][members].double().mean().item() == pytest.approx(0, abs=1e-5)


# --- the corners ---


def test_a_constant_group_is_exactly_zero():
    assert one([0.1] * 3 + [1.0, 2.0], [0, 0, 0, 1, 1]).tolist()[:3] == [0.0, 0.0, 0.0]
    assert one([1 / 3] * 7).tolist() == [0.0] * 7


def test_a_group_of_one_is_zero():
    assert one([0.7, 0.1, 0.2], ["a", "b", "b"]).tolist()[0] == 0.0


def test_a_response_without_the_signal_is_zero_and_not_counted():
    left, right = one([NAN, 1.0, 3.0, 5.0])[1:], one([1.0, 3.0, 5.0])
    assert one([NAN, 1.0, 3.0, 5.0])[0] == 0.0
    torch.testing.assert_close(left, right)


def test_a_group_with_one_defined_member_is_zero():
    assert one([NAN, 4.0, NAN]).tolist() == [0.0, 0.0, 0.0]
    assert one([NAN, NAN]).tolist() == [0.0, 0.0]


def test_the_standard_deviation_is_the_unbiased_one():
    assert one([0.0, 1.0]).tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5)], abs=1e-5)


def test_a_weight_scales_and_a_factor_does_not():
    plain, doubled = one([0.0, 0.5, 1.0]), one([0.0, 0.5, 1.0], term=Term({"x": 1.0}, 2.0))
    torch.testing.assert_close(doubled, 2 * plain)
    torch.testing.assert_close(one([0.0, 0.5, 1.0], term=Term({"x": 7.0})), plain, atol=1e-5, rtol=0)


def test_a_perfectly_precise_answer_keeps_its_precision_in_b2():
    """E⁻ is empty for it, so R⁻ is undefined; the sum of B2 and B1 then has the reward alone."""
    signals = {"precision": torch.tensor([1.0, 0.5, 0.0]), "calib_neg": torch.tensor([NAN, 0.0, 0.0])}
    term = Term({"precision": 1.0, "calib_neg": 0.1})
    found = combine(signals, [0, 0, 0], [term])["advantage"]
    torch.testing.assert_close(found, combine(signals, [0, 0, 0], [P])["advantage"])
    assert found[0] > 0.9


def test_an_answer_without_words_leads_in_b2_where_nothing_else_varies():
    """Its undefined R⁻ adds 0 to a precision that is 0 for all; in MER-R1's own term it is left out."""
    signals = {"precision": torch.zeros(4), "calib_neg": torch.tensor([NAN, -0.429, -0.501, -0.452])}
    mixed = combine(signals, [0] * 4, [Term({"precision": 1.0, "calib_neg": 0.1})])["advantage"]
    assert mixed.argmax() == 0
    assert mixed[0].item() == pytest.approx(1.487, abs=1e-3)
    assert combine(signals, [0] * 4, [P, Term({"calib_neg": 1.0}, 0.1)])["advantage"][0] == 0.0


def test_a_sum_is_undefined_only_where_all_its_signals_are():
    signals = {"a": torch.tensor([NAN, NAN, 1.0, 2.0]), "b": torch.tensor([NAN, 3.0, NAN, 4.0])}
    found = combine(signals, [0] * 4, [Term({"a": 1.0, "b": 1.0})])["advantage"]
    assert found[0] == 0.0
    torch.testing.assert_close(found[1:].double(), one([3.0, 1.0, 6.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "group", [["x", "y", "x", "y"], np.array(["x", "y"] * 2, dtype=object), torch.tensor([7, 3] * 2)]
)
def test_groups_are_uids_numbers_or_a_tensor(group):
    torch.testing.assert_close(one([0.0, 1.0, 1.0, 0.0], group), one([0.0, 1.0, 1.0, 0.0], [0, 1, 0, 1]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_it_computes_in_double_and_gives_the_signals_dtype(dtype):
    values = torch.tensor([0.0, 0.25, 1.0], dtype=dtype)
    found = combine({"x": values}, [0, 0, 0], [Term({"x": 1.0})])["advantage"]
    assert found.dtype == dtype
    assert torch.equal(found, one([0.0, 0.25, 1.0]).to(dtype))


def test_whole_numbers_are_not_rounded():
    found = combine({"x": torch.tensor([0, 0, 1])}, [0, 0, 0], [Term({"x": 1.0})])["advantage"]
    assert found.tolist() == pytest.approx([-0.57735, -0.57735, 1.1547], abs=1e-4)


def test_an_offset_does_not_drown_small_differences():
    near = one([1e6, 1e6 + 1e-3, 1e6 + 2e-3])
    assert near.tolist() == pytest.approx([-1, 0, 1], abs=2e-3)


def test_an_empty_batch_is_empty():
    assert one([]).tolist() == []


def test_a_missing_signal_is_named_with_what_there_is():
    signals = {"recall": torch.zeros(2), "format": torch.zeros(2)}
    with pytest.raises(TermError, match=r"term recall\+f1 needs the signals \['f1'\]; the batch has format, recall"):
        combine(signals, [0, 0], [Term({"recall": 1.0, "f1": 1.0})])


@pytest.mark.parametrize("sizes", [(3, 2), (2, 3)])
def test_wrong_lengths_are_named(sizes):
    with pytest.raises(
        TermError, match=rf"signal precision has shape \({sizes[1]},\), but the group has \({sizes[0]},\)"
    ):
        combine({"recall": torch.zeros(sizes[0]), "precision": torch.zeros(sizes[1])}, [0] * sizes[0], [R])


def test_an_infinite_signal_is_named():
    with pytest.raises(TermError, match="signal recall is infinite for response 1"):
        combine({"recall": torch.tensor([0.0, -math.inf])}, [0, 0], [R])


# --- Appendix A ---


@st.composite
def varied(draw, low=0.0, high=1.0, least=0.02):
    """Recall and precision of a group, both varied and not perfectly opposed."""
    size = draw(st.integers(3, 10))
    pair = [
        torch.tensor(draw(st.lists(st.floats(low, high), min_size=size, max_size=size)), dtype=torch.float64)
        for _ in "RP"
    ]
    assume(all(values.std() > least * (high - low) for values in pair))
    return pair


def correlation(left, right):
    return torch.corrcoef(torch.stack([left, right]))[0, 1].item()


@given(varied())
def test_proposition_3(pair):
    recall, precision = pair
    rho = correlation(recall, precision)
    assume(rho > -0.999)
    dual = combine({"recall": recall, "precision": precision}, [0] * len(recall), [R, P], eps=0)["advantage"]
    for reward in pair:
        assert correlation(reward, dual) == pytest.approx(math.sqrt((1 + rho) / 2), abs=1e-6)


@given(varied(-1.0, 1.0, 0.1), st.floats(0.2, 0.8), st.floats(0.2, 0.8), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_the_sign_of_proposition_1_where_rewards_vary_little(pair, mean_r, mean_p, spread_r, spread_p):
    """τ decides which reward F1's advantage follows; first order, so the spread is small and τ not near 1."""
    recall, precision = mean_r + 1e-5 * spread_r * pair[0], mean_p + 1e-5 * spread_p * pair[1]
    assume(correlation(recall, precision) < 0.95)
    tau = (recall.std() / recall.mean() ** 2 / (precision.std() / precision.mean() ** 2)).item()
    assume(abs(math.log(tau)) > 0.1)
    f1 = 2 * recall * precision / (recall + precision)
    a_f = combine({"f1": f1}, [0] * len(f1), [Term({"f1": 1.0})], eps=0)["advantage"]
    assume(f1.std() > 1e-7)  # where recall and precision cancel in F1, the second order decides
    assert (correlation(recall, a_f) > correlation(precision, a_f)) == (tau > 1)


def test_proposition_1_of_a_batch():
    recall, precision = torch.tensor([0.4, 0.5, 0.6, 0.5]), torch.tensor([0.51, 0.5, 0.5, 0.49])
    signals = {"recall": recall, "precision": precision, "f1": 2 * recall * precision / (recall + precision)}
    found = proposition_1(signals, [0] * 4)
    assert found["tau"] == pytest.approx((recall.std() / precision.std()).item(), rel=1e-4)
    assert found["tau"] > 1
    assert found["corr_recall_f1"] > 0.95 > found["corr_precision_f1"]
    assert found["corr_recall_dual"] == pytest.approx(found["corr_precision_dual"], abs=1e-6)


def test_proposition_1_averages_the_groups_that_have_it():
    recall, precision = torch.tensor([0.2, 0.6, 1.0]), torch.tensor([0.9, 0.3, 0.8])
    group = {"recall": recall, "precision": precision, "f1": 2 * recall * precision / (recall + precision)}
    flat = dict.fromkeys(group, torch.tensor([0.5, 0.5, NAN]))
    batch = {name: torch.cat([group[name], flat[name], group[name].flip(0)]) for name in group}
    for labels in ("aaabbbccc", "bbbaaaccc"):  # the group that has none is looked at second, and first
        assert proposition_1(batch, list(labels)) == pytest.approx(proposition_1(group, ["a"] * 3))
    assert proposition_1(flat, ["b"] * 3) == {}


def test_proposition_1_where_recall_and_precision_cancel():
    recall = torch.tensor([0.2, 0.4, 0.6])
    found = proposition_1({"recall": recall, "precision": 0.8 - recall, "f1": recall * (0.8 - recall)}, [0, 0, 0])
    assert set(found) == {"tau", "log_tau", "corr_recall_f1", "corr_precision_f1"}  # τ is 1: nothing to follow


def test_proposition_1_of_groups_of_two():
    """By hand: τ = (0.4 / 0.4²) / (0.6 / 0.6²), each spread over the mean squared. Both correlations are those of two
    points, and recall and precision cancel."""
    recall, precision = torch.tensor([0.2, 0.6]), torch.tensor([0.9, 0.3])
    found = proposition_1(
        {"recall": recall, "precision": precision, "f1": 2 * recall * precision / (recall + precision)}, [0, 0]
    )
    wanted = {"tau": 1.5, "log_tau": math.log(1.5), "corr_recall_f1": 1.0, "corr_precision_f1": -1.0, "follows": 1.0}
    assert found == pytest.approx(wanted)


def test_proposition_1_counts_the_groups_in_which_f1_follows_tau():
    """In the first F1 follows recall and τ > 1; in the second it follows precision, though τ > 1; in the third recall
    and precision are the same, and neither leads."""
    first = ([0.2, 0.6], [0.9, 0.3], [0.1, 0.4])
    second = ([0.2, 0.6], [0.9, 0.3], [0.4, 0.1])
    third = ([0.2, 0.6], [0.2, 0.6], [0.2, 0.6])
    signals = {
        name: torch.tensor([value for group in (first, second, third) for value in group[place]])
        for place, name in enumerate(("recall", "precision", "f1"))
    }
    found = proposition_1(signals, [0, 0, 1, 1, 2, 2])
    assert found["follows"] == 0.5
    assert found["log_tau"] == pytest.approx(2 / 3 * math.log(1.5))


@pytest.mark.parametrize("constant", ["recall", "precision", "f1"])
def test_proposition_1_needs_all_three_to_vary(constant):
    varied = {"recall": torch.tensor([0.2, 0.6]), "precision": torch.tensor([0.1, 0.3]), "f1": torch.tensor([0.1, 0.4])}
    assert proposition_1({**varied, constant: torch.tensor([0.5, 0.5])}, [0, 0]) == {}


# --- what is logged ---


def test_a_term_is_described():
    signals = {"recall": torch.tensor([0.0, 1.0, 1.0, 1.0]), "calib_neg": torch.tensor([NAN, 1.0, NAN, NAN])}
    terms = [R, Term({"calib_neg": 1.0}, 0.1)]
    found = describe(signals, [0, 0, 1, 1], terms, combine(signals, [0, 0, 1, 1], terms))
    assert found["advantage/recall/undefined"] == 0.0
    assert found["advantage/recall/constant_groups"] == 0.5
    assert found["advantage/recall/mean"] == pytest.approx(0, abs=1e-6)
    assert found["advantage/recall/std"] == pytest.approx(0.5, abs=1e-5)
    assert found["advantage/calib_neg/undefined"] == 0.75
    assert found["advantage/calib_neg/constant_groups"] == 1.0
    assert found["advantage/std"] == pytest.approx(0.5, abs=1e-5)


def test_the_share_of_constant_groups_counts_groups_and_not_responses():
    signals = {"recall": torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])}
    group = [0, 0, 0, 0, 1, 1]
    assert describe(signals, group, [R], combine(signals, group, [R]))["advantage/recall/constant_groups"] == 0.5


# --- degenerate groups ---

TINY = {  # a group without any hit, whose confidences differ by 1e-4 nats, and one with hits
    "recall": [0.0, 0.0, 0.0, 0.0, 0.5, 1.0, 0.5, 0.5],
    "precision": [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.5, 1.0],
    "calib_neg": [-0.2, -0.2001, -0.2, -0.2, 0.5, 0.1, -0.3, NAN],
}
GROUP = [0] * 4 + [1] * 4


def of(columns):
    return {name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()}


def test_tiny_differences_are_the_full_advantage_until_a_least_spread_is_asked_for():
    paper = combine(of(TINY), GROUP, [R, P, Term({"calib_neg": 1.0}, 0.1)])
    assert paper["advantage"][:4].tolist() == pytest.approx([0.05, -0.15, 0.05, 0.05], abs=3e-3)
    asked = combine(
        of(TINY), GROUP, [Term({name: 1.0}, w, least_spread=0.01) for name, w in zip(TINY, (1, 1, 0.1), strict=True)]
    )
    assert asked["advantage"][:4].tolist() == [0.0] * 4
    for name in TINY:
        assert torch.equal(asked[name][4:], paper[name][4:]), "a group that differs by more is as before"


@pytest.mark.parametrize(("least", "counts"), [(0.0, True), (0.25, True), (0.26, False), (math.inf, None)])
def test_the_least_spread_is_between_the_largest_and_the_smallest_value(least, counts):
    if counts is None:
        with pytest.raises(TermError, match="least_spread is inf"):
            Term({"x": 1.0}, least_spread=least)
        return
    term = Term({"x": 1.0}, least_spread=least)
    assert (one([0.5, 0.5, 0.5, 0.75], term=term).abs().sum() > 0) == counts
    # Undefined values have no part in it, and a factor of a signal has.
    assert (one([NAN, 0.5, 0.5, 0.75], term=term).abs().sum() > 0) == counts
    assert one([0.5, 0.75], term=Term({"x": 2.0}, least_spread=least)).abs().sum() > 0
    signals = {"x": torch.tensor([0.5, 0.75], dtype=torch.float64)}
    found = describe(signals, [0, 0], [term], combine(signals, [0, 0], [term]))
    assert found["advantage/x/constant_groups"] == (0.0 if counts else 1.0)


def test_a_negative_least_spread_is_refused():
    with pytest.raises(TermError, match=r"term x: least_spread is -0.1; it must be 0 or more"):
        Term({"x": 1.0}, least_spread=-0.1)


LISTS = {  # labels: two categories. Three answers name one of them; the last lists all six.
    "recall": [0.5, 0.5, 0.5, 1.0],
    "precision": [1.0, 1.0, 1.0, 1 / 3],
}


def test_one_answer_that_lists_every_category_has_no_dual_advantage_and_nor_have_the_others():
    found = combine(of(LISTS), [0] * 4, [R, P])
    assert found["recall"].tolist() == pytest.approx([-0.5, -0.5, -0.5, 1.5], abs=1e-4)
    assert found["advantage"].tolist() == pytest.approx([0.0] * 4, abs=1e-4)


@pytest.mark.parametrize(
    ("groups", "zero", "cancelled"),
    [
        ([LISTS], 0.0, 1.0),
        ([LISTS, TINY], 1 / 3, 1 / 3),
        ([{"recall": [0.0, 0.0, 0.0], "precision": [0.0, 0.0, 0.0]}], 1.0, 0.0),
        ([{"recall": [0.5, 0.5], "precision": [1.0, 1.0]}], 0.0, 0.0),  # constant, but neither
        ([{"recall": [0.0, 0.5], "precision": [0.0, 1.0]}], 0.0, 0.0),
        ([{"recall": [0.5, 0.5, 1.0], "precision": [1.0, 0.5, 0.25]}], 0.0, 0.0),  # the others are not alike
        ([LISTS, {"recall": [0.0] * 9, "precision": [0.0] * 9}], 0.5, 0.5),  # groups are counted, not responses
    ],
)
def test_the_shares_of_degenerate_groups(groups, zero, cancelled):
    columns = {name: [value for part in groups for value in part[name]] for name in ("recall", "precision")}
    index, start = [], 0
    for part in groups:
        own = GROUP if part is TINY else [0] * len(part["recall"])
        index += [start + number for number in own]
        start = max(index) + 1
    signals = {name: values.float() for name, values in of(columns).items()}  # as the run has them
    found = describe(signals, index, [R, P], combine(signals, index, [R, P]))
    assert found["advantage/zero_groups"] == pytest.approx(zero)
    assert found["advantage/cancelled_groups"] == pytest.approx(cancelled)


# --- whitening ---


@given(st.lists(st.tuples(st.floats(-3, 3), st.integers(0, 5)), min_size=2, max_size=10))
def test_whitened_tokens_have_mean_0_and_variance_1(rows):
    values, tokens = torch.tensor([row[0] for row in rows], dtype=torch.float64), torch.tensor([row[1] for row in rows])
    at_tokens = values.repeat_interleave(tokens)
    assume(len(at_tokens) > 1 and at_tokens.std() > 0.01)
    found = whiten(values, tokens)
    assert (found[tokens == 0] == 0).all()
    spread = found.repeat_interleave(tokens)
    assert spread.mean().item() == pytest.approx(0, abs=1e-6)
    assert spread.std().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("tokens", [[0, 0], [1, 0]])
def test_nothing_to_whiten(tokens):
    assert whiten(torch.tensor([1.0, 2.0]), torch.tensor(tokens)).tolist() == [0.0, 0.0]


def test_two_tokens_are_enough_to_whiten():
    """Mean 2, unbiased variance 2; the dtype stays."""
    found = whiten(torch.tensor([1.0, 3.0, 7.0]), torch.tensor([1, 1, 0]))
    assert found.tolist() == pytest.approx([-math.sqrt(0.5), math.sqrt(0.5), 0.0])
    assert found.dtype == torch.float32


def test_a_constant_advantage_is_whitened_to_zero():
    assert whiten(torch.tensor([0.5, 0.5]), torch.tensor([3, 2])).tolist() == [0.0, 0.0]
