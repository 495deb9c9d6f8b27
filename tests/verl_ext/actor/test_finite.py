"""An update whose loss or gradients are not finite ends on every rank, and changes nothing."""

import pytest
import torch
from omni_cases import sample
from ranks import run_ranks

pytestmark = pytest.mark.seam


@pytest.fixture(scope="module")
def found(processor, rows, tiny_model, tmp_path_factory):
    """The result of each of two ranks, two micro-batches each; the fault is on the second rank only."""
    out = tmp_path_factory.mktemp("finite")
    torch.save([sample(processor, "text", rows[seed], seed) for seed in range(4)], out / "samples.pt")
    run_ranks("finite_rank.py", 2, (tiny_model, out / "samples.pt", out))
    return [torch.load(out / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


def test_a_loss_that_is_no_number_on_one_rank_ends_the_update_on_all(found):
    assert found[0]["loss"]["error"].startswith(
        "the loss of another rank is not a finite number. No weight was changed"
    )
    assert found[1]["loss"]["error"].startswith(
        "the loss of micro-batch 2 of 2 on rank 1 is nan. No weight was changed"
    )
    assert [rank["loss"]["same"] for rank in found] == [True, True]


def test_gradients_that_are_no_numbers_end_the_update_with_a_finite_loss(found):
    for rank in found:
        assert rank["gradient"]["error"].startswith("the norm of the gradients is nan, with a finite loss.")
        assert "Lower the learning rate" in rank["gradient"]["error"]
        assert rank["gradient"]["same"]


def test_other_updates_are_verls(found):
    for rank in found:
        for name in ("none", "none again"):
            assert rank[name] == {"error": "", "same": False}
