"""Which batches are cut by tokens, and how ranks agree on the number of micro-batches: one process plays a rank."""

from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.seam

# Two prompts of 3 tokens with responses of 2 and 1, and of 4; rows of 6 and 7 tokens.
SAMPLES = (([1, 2, 3], [4, 5], "a"), ([6, 7, 8], [9, 9, 9, 9], "b"), ([1, 2, 3], [5], "a"))


def batch_of(**settings):
    from verl.utils import tensordict_utils as tu

    def jagged(rows):
        return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)

    tensors = {
        "input_ids": jagged([prompt + response for prompt, response, _ in SAMPLES]),
        "responses": jagged([response for _, response, _ in SAMPLES]),
        "position_ids": jagged([list(range(len(prompt + response))) for prompt, response, _ in SAMPLES]),
        "loss_mask": jagged([[1] * len(response) for _, response, _ in SAMPLES]),
    }
    settings = {"use_dynamic_bsz": True, "max_token_len_per_gpu": 14, "use_remove_padding": False, **settings}
    made = tu.get_tensordict(tensors, {name: value for name, value in settings.items() if value is not None})
    tu.assign_non_tensor(made, uid=[uid for _, _, uid in SAMPLES])
    return made


@pytest.fixture
def rank(monkeypatch):
    """A function: (micro-batches and samples of the other rank) -> this rank, with a log of its micro-batches."""
    import verl.workers.engine  # noqa: F401  before token_limit, as in a run

    from verl_ext.actor import token_limit

    class Verls:
        scaler, _differs, _compared = None, False, frozenset({False, True})
        module = SimpleNamespace(media_token_ids=())

        def forward_backward_batch(self, data, loss_function, forward_only=False):
            return "verl's"

        def get_data_parallel_group(self):
            return None

        def get_data_parallel_size(self):
            return 2

        def _can_share_prompts(self, data):
            return True

        def forward_step(self, micro_batch, loss_function, forward_only):
            self.cut.append([row.tolist() for row in micro_batch["input_ids"].unbind()])
            self.totals.append({name: micro_batch[name] for name in ("batch_num_tokens", "dp_size")})
            lengths = [row.float() for row in micro_batch["input_ids"].unbind()]
            found = {"log_probs": torch.nested.as_nested_tensor(lengths, layout=torch.jagged)}
            return None, {"model_output": found, "loss": 1.0, "metrics": {}}

    class Rank(token_limit.TokenLimitMixin, Verls):
        pass

    def build(parts=1, samples=3):
        def all_reduce(tensor, op, group):
            other = torch.tensor(100) if tensor.dim() == 0 else torch.tensor([parts, -samples])
            tensor.copy_(tensor + other if op == torch.distributed.ReduceOp.SUM else torch.maximum(tensor, other))

        monkeypatch.setattr(token_limit.dist, "all_reduce", all_reduce)
        monkeypatch.setattr(token_limit, "get_device_id", lambda: "cpu")
        made = Rank()
        made.cut, made.totals = [], []
        return made

    return build


A, B, C = ([*prompt, *response] for prompt, response, _ in SAMPLES)


@pytest.mark.parametrize(
    ("limit", "others", "expected"),
    [
        (14, 1, [[A, B, C]]),
        (13, 1, [[B], [A, C]]),
        (14, 2, [[B], [A, C]]),  # the other rank needs two
        (14, 3, [[B], [A], [C]]),
        (1, 1, [[B], [A], [C]]),
    ],
)
def test_every_rank_makes_as_many_forwards_as_the_one_that_needs_most(limit, others, expected, rank):
    mine = rank(parts=others)
    found = mine.forward_backward_batch(batch_of(max_token_len_per_gpu=limit), None, forward_only=True)
    assert mine.cut == expected
    assert [row.tolist() for row in found["model_output"]["log_probs"].unbind()] == [A, B, C]  # in the batch's order
    assert mine.totals == [{"batch_num_tokens": 107, "dp_size": 2}] * len(expected)


def test_more_forwards_than_a_rank_has_responses_is_an_error_on_every_rank(rank):
    with pytest.raises(ValueError, match=r"needs 4 micro-batches of at most 14 tokens, and a rank has 3 responses"):
        rank(parts=4).forward_backward_batch(batch_of(), None, forward_only=True)
    with pytest.raises(ValueError, match=r"needs 2 micro-batches of at most 13 tokens, and a rank has 1 responses"):
        rank(samples=1).forward_backward_batch(batch_of(max_token_len_per_gpu=13), None, forward_only=True)


@pytest.mark.parametrize("limit", [0, -5, 8.0])
def test_a_bad_limit_is_an_error(limit, rank):
    with pytest.raises(ValueError, match="1 token or more"):
        rank().forward_backward_batch(batch_of(max_token_len_per_gpu=limit), None, forward_only=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_dynamic_bsz": False},
        {"use_remove_padding": True},
        {"max_token_len_per_gpu": None},
        {"force_group_size": 3},
    ],
)
def test_other_batches_are_verls(settings, rank):
    assert rank().forward_backward_batch(batch_of(**settings), None, forward_only=True) == "verl's"
    without = batch_of()
    del without["responses"]  # SFT
    assert rank().forward_backward_batch(without, None, forward_only=True) == "verl's"
