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

    takes_logits_at = True

    def __init__(self, honours_mask=True):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.tokens, self.places = (torch.randn(64, VOCABULARY, generator=generator) for _ in range(2))
        self.honours_mask, self.calls = honours_mask, []

    def forward(
        self, input_ids, position_ids, attention_mask=None, logits_at=None, scores_at=None, score=None, use_cache=False
    ):
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
        logits = (seen.float() @ features).sin() * 4
        if logits_at is None:
            return SimpleNamespace(logits=logits)
        logits = logits.flatten(0, 1)
        first, second = scores_at.split([1, len(scores_at) - 1])  # in two chunks
        scores = [score(logits[first], slice(0, 1)), score(logits[second], slice(1, None))]
        return SimpleNamespace(logits=logits[logits_at], scores=torch.cat(scores))


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


def group(*members):
    """Samples of one prompt, that of the first."""
    prompt = members[0]["prompt"]
    return [
        member
        | {
            "prompt": prompt,
            "input_ids": torch.cat([prompt, member["responses"]]),
            "position_ids": torch.arange(len(prompt) + len(member["responses"])).expand(4, -1).clone(),
        }
        for member in members
    ]


A1, A2, A3 = group(SAMPLES[1], SAMPLES[0], SAMPLES[2])
B1, B2 = group(SAMPLES[0], EQUAL[0])
GROUPS = [A1, B1, A2, EQUAL[2], B2, A3]
"""Groups of three, two and one; their members are not neighbours."""


@pytest.fixture
def engine():
    """The engine as far as a forward needs it, around a made model."""
    from verl.utils.torch_functional import entropy_from_logits

    from verl_ext.actor.engine import CPUFSDPEngine

    def make(model=None, attention="sdpa", dtype=torch.float32, **config):
        engine = CPUFSDPEngine.__new__(CPUFSDPEngine)
        engine._on_any_rank = bool  # one rank, also where a vLLM of another test has left a process group
        engine.module = model or Model()
        text = SimpleNamespace(_attn_implementation=attention)
        engine.model_config = SimpleNamespace(hf_config=SimpleNamespace(get_text_config=lambda: text, **config))
        engine.engine_config = SimpleNamespace(
            entropy_checkpointing=False, entropy_from_logits_with_chunking=False, pad_to_length=False
        )
        engine.use_ulysses_sp, engine.pad_to_length = False, False
        engine.compute_entropy_from_logits, engine._autocast_dtype = entropy_from_logits, dtype
        return engine

    return make


def batch(sets=True, removed=False, shares=True, samples=SAMPLES, temperature=0.7):
    from set_log_probs_rank import batch_of
    from verl.utils import tensordict_utils as tu

    asked = {"token_sets": SETS, "token_shares": SHARES} if shares else {"token_sets": SETS}
    made = batch_of(samples, asked if sets else None, len(samples))
    if isinstance(temperature, torch.Tensor):
        made["temperature"] = temperature
    else:
        tu.assign_non_tensor_data(made, "temperature", temperature)
    tu.assign_non_tensor_data(made, "use_remove_padding", removed)
    tu.maybe_fix_3d_position_ids(made)  # as verl's engine does before it takes micro-batches
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
@pytest.mark.parametrize("samples", [SAMPLES, EQUAL, EQUAL[:1], GROUPS], ids=["unequal", "equal", "one", "groups"])
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


def read(jagged, samples):
    """What verl reads of values of whole sequences."""
    lengths = [len(one["responses"]) for one in samples]
    return [row[-length - 1 : -1] for row, length in zip(jagged.unbind(), lengths, strict=True)]


@pytest.mark.parametrize("sets", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7, "each its own"])
@pytest.mark.parametrize("name", [PACKED, TWO_FORWARDS, UNPADDED])
@pytest.mark.parametrize("samples", [SAMPLES, EQUAL, GROUPS], ids=["unequal", "equal", "groups"])
def test_log_probs_and_entropy_are_those_of_each_sequence_alone(samples, name, temperature, sets, engine):
    if temperature == "each its own":
        temperature = torch.arange(1, len(samples) + 1) / 3
    found, _ = way(engine, name, sets=sets, samples=samples, temperature=temperature)
    assert set(found) == {"log_probs", "entropy", *(("set_log_probs", "branch_set_log_probs") if sets else ())}
    log_probs, entropy = (read(found[field], samples) for field in ("log_probs", "entropy"))
    for index, one in enumerate(samples):
        ids = one["input_ids"]
        logits = Model()(ids[None], torch.arange(len(ids)).expand(4, 1, -1), torch.ones_like(ids)[None]).logits[0]
        logits = logits[len(one["prompt"]) - 1 : -1] / torch.as_tensor(temperature).expand(len(samples))[index]
        expected = logits.log_softmax(-1)
        of_token = expected.gather(1, one["responses"][:, None])[:, 0]
        torch.testing.assert_close(log_probs[index], of_token, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(entropy[index], -(expected.exp() * expected).sum(-1), atol=1e-5, rtol=1e-5)


def test_what_verl_does_not_read_is_zero(engine):
    found, _ = way(engine, PACKED, samples=GROUPS)
    for field in ("log_probs", "entropy"):
        for row, one in zip(found[field].unbind(), GROUPS, strict=True):
            prompt = len(one["prompt"])
            assert row.nonzero()[:, 0].tolist() == list(range(prompt - 1, len(row) - 1))


PACKED_GROUPS, PLAIN_GROUPS = (3, 6 + 2 + 4 + 7 + 5 + 2 + 3), (6, 13)
"""Shapes of GROUPS: the first row holds a prompt of 6, three responses and three branches."""
BRANCHES_ALONE = (6, 11)


def test_one_forward_serves_a_group_once_it_has_been_compared_with_plain_ones(engine, capsys):
    made = engine()
    forward(made, batch(samples=GROUPS))
    assert made.module.calls == [PACKED_GROUPS, PLAIN_GROUPS, BRANCHES_ALONE, PACKED_GROUPS]
    forward(made, batch(samples=GROUPS))
    assert made.module.calls[4:] == [PACKED_GROUPS]
    forward(made, batch(samples=GROUPS, sets=False))  # as in the update: compared, too
    responses_alone = (3, 6 + 2 + 4 + 7)
    assert made.module.calls[5:] == [responses_alone, PLAIN_GROUPS, responses_alone]
    forward(made, batch(samples=GROUPS, sets=False))
    assert made.module.calls[8:] == [responses_alone]
    printed = capsys.readouterr().out
    assert printed.count("log-probs and set log-probs of one forward for all continuations of a prompt and of") == 1
    assert printed.count("differ by") == 2
    assert "plain forwards, which is right" not in printed


@pytest.mark.parametrize("name", [TWO_FORWARDS, UNPADDED])
def test_without_a_block_mask_there_are_two_forwards(name, engine):
    assert len(way(engine, name)[1].calls) == 2


def test_without_anything_shared_there_is_nothing_to_compare_and_no_block_mask(engine):
    made = engine()
    inputs, _ = made.prepare_model_inputs(batch(sets=False))
    assert inputs["attention_mask"].shape == (3, max(prompt + response for prompt, response, _ in LENGTHS))
    assert len(inputs["logits_at"]) == 0
    assert len(inputs["scores_at"]) == sum(response for _, response, _ in LENGTHS)
    assert made.module.calls == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sets", [True, False])
def test_a_model_that_does_not_honour_the_block_mask_gets_plain_forwards(sets, dtype, engine, capsys):
    made = engine(Model(honours_mask=False), dtype=dtype)
    found = forward(made, batch(samples=GROUPS, sets=sets))
    expected, _ = way(engine, TWO_FORWARDS, samples=GROUPS, sets=sets)
    for field, values in expected.items():
        torch.testing.assert_close(found[field].values(), values.values(), atol=1e-5, rtol=1e-5)
    plain = [PLAIN_GROUPS, BRANCHES_ALONE] if sets else [PLAIN_GROUPS]
    assert made.module.calls[-len(plain) :] == plain
    calls = len(made.module.calls)
    forward(made, batch(samples=GROUPS, sets=sets))
    forward(made, batch(samples=GROUPS, sets=not sets))
    assert set(made.module.calls[calls:]) == {PLAIN_GROUPS, BRANCHES_ALONE}
    printed = capsys.readouterr().out
    assert printed.count("differ by") == 1
    assert "The run continues with plain forwards" in printed


SETTINGS = {
    "calculate_sum_pi_squared": True,
    "distillation_use_topk": True,
    "distillation_only": True,
    "use_fused_kernels": True,
}


@pytest.mark.parametrize("setting", [*SETTINGS, "the switch", "no responses", "the model", "attention", "padding"])
def test_where_prompts_are_not_shared(setting, engine):
    from verl.utils import tensordict_utils as tu

    made = engine(attention="eager" if setting == "attention" else "sdpa", shared_prompt=setting != "the switch")
    micro_batch = batch(samples=GROUPS, sets=False, removed=setting == "padding")
    for attention in ("sdpa", "shared_prompt_flex"):
        assert engine(attention=attention)._can_share_prompts(batch(samples=GROUPS, sets=False))
    if setting in SETTINGS:
        tu.assign_non_tensor_data(micro_batch, setting, True)
    if setting == "no responses":
        micro_batch.pop("responses")
    if setting == "the model":
        made.module.takes_logits_at = False
    assert not made._can_share_prompts(micro_batch)
