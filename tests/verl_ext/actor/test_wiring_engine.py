"""Rows of the engine by position, on a made model whose logits say what each place sees: packed, alone, unpadded."""

from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.seam

VOCABULARY = 23
SETS = [[1, 5, 9], [2], [], [1, 2, 3, 4, 11]]
SHARES = [[0.5, 1.0, 0.25], [1.0], [], [1.0] * 5]
LENGTHS = ((3, 4, 2), (6, 2, 5), (1, 7, 3))  # prompt, response, branch
PLACES = (([0, 3], [1, 0]), ([1, 0, 1], [4, 0, 2]), ([6], [2]))  # in response and branch
PACKED, TWO_FORWARDS, UNPADDED = "packed", "two forwards", "padding removed"


class Model(torch.nn.Module):
    """Logits are sums over what a place sees, of features of tokens and positions; `calls` are the inputs' shapes."""

    def __init__(self, honours_mask=True):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.tokens, self.places = (torch.randn(64, VOCABULARY, generator=generator) for _ in range(2))
        self.honours_mask, self.calls = honours_mask, []

    def forward(self, input_ids, position_ids, attention_mask=None, use_cache=False):
        self.calls.append(tuple(input_ids.shape))
        positions_BL = position_ids[0]  # of the four channels
        seen = torch.ones(input_ids.shape[-1], input_ids.shape[-1], dtype=torch.bool).tril()
        if attention_mask is None:  # as FlashAttention: a sequence begins where the positions do
            sequence = (positions_BL[0] == 0).cumsum(0)
            seen = seen & (sequence[:, None] == sequence)
        elif attention_mask.dim() == 4 and self.honours_mask:
            seen = attention_mask[:, 0]
        features = self.tokens[input_ids] + self.places[positions_BL]
        # Not a plain mean: what is seen must change each logit in its own way.
        return SimpleNamespace(logits=(seen.float() @ features).sin() * 4)


def sample(seed, like=None):
    """Random tokens; lengths and places are those of the sample ``like``."""
    shape = seed if like is None else like
    generator = torch.Generator().manual_seed(seed + 1)
    prompt, response, branch = (torch.randint(0, 23, (size,), generator=generator) for size in LENGTHS[shape])
    ids = torch.cat([prompt, response])
    slow, fast = map(torch.tensor, PLACES[shape])
    return {
        "prompt": prompt,
        "input_ids": ids,
        "position_ids": torch.arange(len(ids)).expand(4, -1).clone(),
        "responses": response,
        "branch_ids": branch,
        "set_positions": slow,
        "branch_set_positions": fast,
        "multi_modal_inputs": {},
    }


SAMPLES = [sample(seed) for seed in range(3)]
EQUAL = [sample(seed, like=1) for seed in range(3)]
"""Of equal lengths: torch then takes the four channels of the positions for the ragged dimension."""


@pytest.fixture
def engine():
    """The engine as far as a forward needs it, around a made model."""
    from verl.utils.torch_functional import entropy_from_logits

    from verl_ext.actor.engine import CPUFSDPEngine

    def make(model=None, attention="sdpa", dtype=torch.float32):
        engine = CPUFSDPEngine.__new__(CPUFSDPEngine)
        engine.module = model or Model()
        text = SimpleNamespace(_attn_implementation=attention)
        engine.model_config = SimpleNamespace(hf_config=SimpleNamespace(get_text_config=lambda: text))
        engine.engine_config = SimpleNamespace(
            entropy_checkpointing=False, entropy_from_logits_with_chunking=False, pad_to_length=False
        )
        engine.use_ulysses_sp, engine.pad_to_length = False, False
        engine.compute_entropy_from_logits, engine._autocast_dtype = entropy_from_logits, dtype
        return engine

    return make


def batch(sets=True, removed=False, shares=True, samples=SAMPLES):
    from set_log_probs_rank import batch_of
    from verl.utils import tensordict_utils as tu

    asked = {"token_sets": SETS, "token_shares": SHARES} if shares else {"token_sets": SETS}
    made = batch_of(samples, asked if sets else None, len(samples))
    tu.assign_non_tensor_data(made, "use_remove_padding", removed)
    return made


def forward(engine, micro_batch):
    inputs, output_args = engine.prepare_model_inputs(micro_batch)
    return engine.prepare_model_outputs(engine.module(**inputs), output_args, micro_batch, None)


def way(engine, name, **asked):
    attention = {PACKED: "sdpa", TWO_FORWARDS: "eager", UNPADDED: "flash_attention_2"}[name]
    made = engine(attention=attention)
    return forward(made, batch(removed=name == UNPADDED, **asked)), made.module


def naive(one, continuation, places, shares=SHARES):
    """Rows of a continuation, from a forward of its prompt and itself alone."""
    ids = torch.cat([one["prompt"], continuation])
    positions = torch.arange(len(ids)).expand(4, 1, -1)
    log_probs = Model()(ids[None], positions, torch.ones_like(ids)[None]).logits[0].log_softmax(-1)
    rows = []
    for place in places.tolist():
        of_place = log_probs[len(one["prompt"]) + place - 1]
        masses = [
            sum((share * of_place[token].exp() for token, share in zip(*pair, strict=True)), torch.tensor(0.0)).log()
            for pair in zip(SETS, shares, strict=True)
        ]
        rows.append(torch.stack([*masses, of_place[continuation[place]]]))
    return torch.cat(rows)


@pytest.mark.parametrize("name", [PACKED, TWO_FORWARDS, UNPADDED])
@pytest.mark.parametrize("samples", [SAMPLES, EQUAL, EQUAL[:1]], ids=["unequal", "equal", "one"])
def test_rows_are_those_of_each_sequence_alone(samples, name, engine):
    found, _ = way(engine, name, samples=samples)
    for part, continuation, places in (
        ("set_log_probs", "responses", "set_positions"),
        ("branch_set_log_probs", "branch_ids", "branch_set_positions"),
    ):
        for row, one in zip(found[part].unbind(), samples, strict=True):
            torch.testing.assert_close(row, naive(one, one[continuation], one[places]), atol=1e-5, rtol=1e-5)


def test_without_shares_every_token_counts_in_full(engine):
    found, _ = way(engine, PACKED, shares=False)
    full = [[1.0] * len(tokens) for tokens in SETS]
    for row, one in zip(found["set_log_probs"].unbind(), SAMPLES, strict=True):
        torch.testing.assert_close(row, naive(one, one["responses"], one["set_positions"], full), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", [PACKED, TWO_FORWARDS, UNPADDED])
@pytest.mark.parametrize("samples", [SAMPLES, EQUAL], ids=["unequal", "equal"])
def test_log_probs_and_entropy_are_those_without_sets(samples, name, engine):
    found, _ = way(engine, name, samples=samples)
    plain, _ = way(engine, name, sets=False, samples=samples)
    assert set(plain) == {"log_probs", "entropy"}
    for field in plain:
        torch.testing.assert_close(found[field].values(), plain[field].values(), atol=1e-5, rtol=1e-5)


def test_one_forward_serves_both_once_it_has_been_compared_with_two(engine, capsys):
    made = engine()
    forward(made, batch())
    longest = max(prompt + response for prompt, response, _ in LENGTHS)
    packed, of_branch = (3, longest + 5), (3, max(prompt + branch for prompt, _, branch in LENGTHS))
    assert made.module.calls == [packed, (3, longest), of_branch]
    forward(made, batch())
    assert made.module.calls[3:] == [packed]
    assert capsys.readouterr().out.count("of one forward (response + branch) and of two differ") == 1
    assert len(way(engine, TWO_FORWARDS)[1].calls) == len(way(engine, UNPADDED)[1].calls) == 2


def test_a_model_that_does_not_honour_the_block_mask_stops_the_run(engine):
    from verl_ext.actor.engine import BranchMismatchError

    made = engine(Model(honours_mask=False))
    for _ in range(2):  # it is not trusted the second time either
        with pytest.raises(BranchMismatchError, match=r"two forwards differ by .* the limits are 0\.0001"):
            forward(made, batch())


@pytest.mark.parametrize(
    ("dtype", "gap", "stops"),
    [
        (torch.float32, 5e-5, False),
        (torch.float32, 2e-4, True),
        (torch.float32, -2e-4, True),
        (torch.bfloat16, 1.9, False),
        (torch.bfloat16, 2.1, True),
        (torch.float32, float("nan"), True),
        (torch.bfloat16, float("nan"), True),
    ],
)
@pytest.mark.parametrize("part", [0, 1])
def test_the_limit_of_the_comparison(part, dtype, gap, stops, engine):
    """Response or branch alone may be off; sets without mass to speak of may differ, and empty ones are equal."""
    from verl_ext.actor.engine import BranchMismatchError

    two = torch.tensor([[-1.0, -25.0, -torch.inf], *[[-3.0, -20.0, -torch.inf]] * 9])
    other, off = two.clone(), two + torch.tensor([[0.0, 3.0, 0.0], [gap, 0.0, 0.0], *[[0.0] * 3] * 8])
    found = (off, other) if part == 0 else (other, off)
    made = engine(dtype=dtype)
    if stops:
        with pytest.raises(BranchMismatchError):
            made._check_one_forward(found, (two, two))
    else:
        made._check_one_forward(found, (two, two))
    assert made._one_forward_is_checked is not stops


@pytest.mark.parametrize(("gap", "stops"), [(0.29, False), (-0.31, True)])
@pytest.mark.parametrize("part", [0, 1])
def test_in_low_precision_the_mean_of_each_part_is_limited(part, gap, stops, engine):
    """Branches alone may be wrong: the mean over both parts would be half of theirs."""
    from verl_ext.actor.engine import BranchMismatchError

    two = torch.full((6, 2), -3.0)
    found = (two + gap, two) if part == 0 else (two, two + gap)
    made = engine(dtype=torch.bfloat16)
    if stops:
        with pytest.raises(BranchMismatchError, match=r"3\.1e-01 on average \(bfloat16\)"):
            made._check_one_forward(found, (two, two))
    else:
        made._check_one_forward(found, (two, two))


@pytest.mark.parametrize("wrong", [(-1.0, float("nan")), (-5.0, -40.0), (-40.0, -5.0), (-5.0, -torch.inf)])
@pytest.mark.parametrize("part", [0, 1])
def test_a_mass_that_only_one_way_has_and_nan_on_either_side_stop_the_run(part, wrong, engine):
    from verl_ext.actor.engine import BranchMismatchError

    same, one, two = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.0, wrong[0]]]), torch.tensor([[-1.0, wrong[1]]])
    found, expected = ((one, same), (two, same)) if part == 0 else ((same, one), (same, two))
    with pytest.raises(BranchMismatchError):
        engine()._check_one_forward(found, expected)
