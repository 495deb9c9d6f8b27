"""How far the log-probs of one forward may be from those of another that computes the same. Needs torch alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Limit:
    """In nats."""

    largest: float
    mean: float
    """Of each part."""


# In fp32 they differ by 4e-5 at most, and with a position one off by 1.6. Low precision rounds each way on its own, so
# that the mean says more than the largest: SmolLM2 in bf16 differs by .23 at most and .06 on average, and without the
# block mask by 7.5 and 1.4. A position one off is lost in the rounding there.
# (tests/verl_ext/actor/test_one_forward_low_precision.py)
LIMIT = {torch.float32: Limit(1e-4, 1e-4)}
LIMIT_LOW_PRECISION = Limit(2.0, 0.3)
_NO_MASS = -20.0


@dataclass(frozen=True)
class Difference:
    """Between two results of one micro-batch."""

    largest: float
    """NaN where any value is NaN."""
    mean: float
    """The largest of the parts' means: a part alone may be wrong."""
    dtype: torch.dtype

    @classmethod
    def between(
        cls, one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor], dtype: torch.dtype
    ) -> Difference:
        """Compare log-probs part by part, where either way gives them any mass to speak of.

        Args:
            one: log-probs of any shape by part.
            other: the same parts and shapes.
            dtype: in which both were computed.
        """
        gaps = []
        for part, values in one.items():
            # Not "> -20": NaN on either side must stay in. -inf (an empty set) is left out, so that it equals itself.
            compared = ~(torch.maximum(values, other[part]) <= _NO_MASS)
            gaps.append((values - other[part])[compared].float().abs())
        gaps = [gap for gap in gaps if len(gap)] or [torch.zeros(1)]
        return cls(torch.cat(gaps).max().item(), torch.stack([gap.mean() for gap in gaps]).max().item(), dtype)

    @property
    def limit(self) -> Limit:
        return LIMIT.get(self.dtype, LIMIT_LOW_PRECISION)

    @property
    def is_small(self) -> bool:
        """False where anything is NaN."""
        return self.largest <= self.limit.largest and self.mean <= self.limit.mean

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"differ by {self.largest:.1e} at most and {self.mean:.1e} on average ({dtype})"
