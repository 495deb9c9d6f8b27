"""Log-probs of labels from the logits of a large vocabulary, in fp32 whatever the logits' dtype, a chunk at a time.

Needs torch alone. Beside the logits and their gradient, in their own dtype, only one chunk is in memory, in fp32.
"""

from __future__ import annotations

from typing import Any

import torch

CHUNK_ELEMENTS = 2**26
"""Logits that are in memory in fp32 at a time: 256 MiB."""


def log_probs_of_labels(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """log p(label) under the softmax of each row.

    Args:
        logits: ``(…, V)``, any floating dtype; must not be changed in place before the backward pass.
        labels: ``(…,)`` int64.

    Returns:
        ``(…,)`` float32, or float64 where the logits are. The gradient has the dtype of the logits.
    """
    return _LogProbs.apply(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1)).view(labels.shape)


class _LogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_NV: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
        normalizers = [_in_full(chunk).logsumexp(-1) for chunk in logits_NV.split(_rows(logits_NV))]
        log_z_N = torch.cat(normalizers) if normalizers else _in_full(logits_NV).sum(-1)
        ctx.save_for_backward(logits_NV, labels_N, log_z_N)
        return _in_full(logits_NV.gather(-1, labels_N[:, None]).squeeze(-1)) - log_z_N

    @staticmethod
    def backward(ctx: Any, gradient_N: torch.Tensor) -> tuple[torch.Tensor, None]:
        """d log p(label) / d logits = (1 at the label) − p."""
        logits_NV, labels_N, log_z_N = ctx.saved_tensors
        gradient_NV, rows = torch.empty_like(logits_NV), _rows(logits_NV)
        for start in range(0, len(logits_NV), rows):
            part = slice(start, start + rows)
            negative_NV = (_in_full(logits_NV[part]) - log_z_N[part, None]).exp_().mul_(-gradient_N[part, None])
            negative_NV.scatter_add_(1, labels_N[part, None], gradient_N[part, None])
            gradient_NV[part] = negative_NV
        return gradient_NV, None


def _rows(logits_NV: torch.Tensor) -> int:
    return max(1, CHUNK_ELEMENTS // logits_NV.shape[-1])


def _in_full(values: torch.Tensor) -> torch.Tensor:
    return values if values.dtype == torch.float64 else values.float()
