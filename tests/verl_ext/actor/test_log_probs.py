"""Log-probs of labels in chunks: values and gradients are those of log_softmax."""

import pytest
import torch

from verl_ext.actor import log_probs
from verl_ext.actor.log_probs import log_probs_of_labels


@pytest.fixture(autouse=True, params=[1, 30, 10_000])
def chunks(request, monkeypatch):
    """One row a chunk, three rows, all rows."""
    monkeypatch.setattr(log_probs, "CHUNK_ELEMENTS", request.param)


def drawn(*shape, dtype=torch.float64):
    torch.manual_seed(0)
    return (4 * torch.randn(*shape)).to(dtype).requires_grad_(), torch.randint(shape[-1], shape[:-1])


def test_values_and_gradients_in_double_precision():
    logits, labels = drawn(7, 10)
    assert torch.autograd.gradcheck(lambda values: log_probs_of_labels(values, labels), (logits,))
    expected = logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0]
    torch.testing.assert_close(log_probs_of_labels(logits, labels), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("dtype", "largest"), [(torch.float32, 1e-6), (torch.bfloat16, 2**-8), (torch.float16, 2**-11)]
)
def test_rows_of_a_batch_with_a_gradient_each(dtype, largest):
    """Log-probs are fp32 from the logits as they are; only the gradient is rounded to their dtype."""
    logits, labels = drawn(2, 5, 10, dtype=dtype)
    weights = torch.linspace(-1, 1, 10).view(2, 5)
    found = log_probs_of_labels(logits, labels)
    (found * weights).sum().backward()
    exact = logits.detach().double().requires_grad_()
    expected = exact.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    (expected * weights).sum().backward()
    assert found.dtype == torch.float32
    assert logits.grad.dtype == dtype
    assert (found - expected).abs().max() <= 1e-6 * 4
    assert (logits.grad - exact.grad).abs().max() <= largest


def test_a_banned_token_and_an_empty_batch():
    logits = torch.tensor([[0.0, -1e4, 0.0]]).requires_grad_()
    found = log_probs_of_labels(logits, torch.tensor([0]))
    found.sum().backward()
    torch.testing.assert_close(found, torch.tensor([0.5]).log())
    torch.testing.assert_close(logits.grad, torch.tensor([[0.5, 0.0, -0.5]]))
    assert log_probs_of_labels(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)).shape == (0,)
