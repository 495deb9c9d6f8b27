"""Set log-probs, on made logits."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from verl_ext.actor.set_log_probs import TokenSets, set_log_probs

VOCABULARY = 12
token_lists = st.lists(st.lists(st.integers(0, VOCABULARY - 1), unique=True, max_size=VOCABULARY), max_size=6)


@settings(deadline=None)
@given(token_lists, st.integers(1, 5), st.integers(0, 10**6), st.sampled_from([0.1, 1.0, 30.0]))
def test_they_are_the_sums_of_the_probabilities(sets, rows, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, VOCABULARY, generator=generator) * scale
    labels = torch.randint(0, VOCABULARY, (rows,), generator=generator)
    found = set_log_probs(logits, labels, TokenSets.from_lists(sets))
    assert found.shape == (rows, len(sets) + 1)
    exact = logits.double().log_softmax(-1)
    for column, tokens in enumerate(sets):
        torch.testing.assert_close(found[:, column].double(), exact[:, tokens].logsumexp(-1), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found[:, -1].double(), exact.gather(1, labels[:, None])[:, 0], atol=1e-4, rtol=1e-5)


@given(st.integers(0, VOCABULARY - 1), st.integers(0, 10**6))
@settings(deadline=None)
def test_a_set_of_one_token_has_that_tokens_log_prob(token, seed):
    logits = torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 10
    found = set_log_probs(logits, torch.full((3,), token), TokenSets.from_lists([[token]]))
    assert torch.equal(found[:, 0], found[:, 1])


def test_masses_below_the_smallest_float_survive():
    logits = torch.tensor([[0.0, -300.0, -300.0]])
    found = set_log_probs(logits, torch.tensor([0]), TokenSets.from_lists([[1, 2]]))
    assert found[0, 0].item() == pytest.approx(-300 + torch.tensor(2.0).log().item(), abs=1e-4)


def test_the_whole_vocabulary_has_mass_one_and_nothing_has_none():
    logits = torch.randn(4, VOCABULARY)
    found = set_log_probs(logits, torch.zeros(4, dtype=torch.long), TokenSets.from_lists([list(range(VOCABULARY)), []]))
    assert found[:, 0].abs().max() < 1e-6
    assert found[:, 1].isneginf().all()


def test_bfloat16_logits_are_summed_in_float32():
    logits = torch.randn(2, VOCABULARY).bfloat16()
    sets, labels = TokenSets.from_lists([[0, 1, 2]]), torch.tensor([0, 1])
    assert torch.equal(set_log_probs(logits, labels, sets), set_log_probs(logits.float(), labels, sets))


def test_a_token_named_twice_is_refused():
    with pytest.raises(ValueError, match="token set 1 contains the same token twice"):
        TokenSets.from_lists([[1], [2, 2]])


def test_the_numeric_cores_need_torch_and_transformers_alone():
    """So that they can be tested and timed on a GPU machine that has nothing else."""
    absent = ("verl", "vllm", "ray", "tensordict", "transfer_queue", "hydra", "omegaconf", "wrapt")
    cores = (
        "verl_ext.actor.set_log_probs",
        "verl_ext.actor.branch",
        "verl_ext.actor.compare",
        "verl_ext.actor.shared_prompt",
        "recipe.mer_r1.method.advantage",
        "recipe.mer_r1.method.confidence",
    )
    code = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in absent)
    code += "".join(f"import {name}\n" for name in cores)
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=True)
