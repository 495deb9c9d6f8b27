"""Log-probabilities of sets of tokens: log Σ p(t) over the tokens of a set, at chosen rows of the logits.

Needs torch alone, so that it can be tested and timed where nothing else is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TokenSets:
    """S sets of token ids, laid end to end. A token may be in several sets, in one set once; a set may be empty."""

    token_ids: torch.Tensor
    """``(M,)`` int64: the tokens of set 0, then those of set 1, …"""
    set_ids: torch.Tensor
    """``(M,)`` int64: the set of each token."""
    size: int
    """S."""
    log_shares: torch.Tensor | None = None
    """``(M,)`` float32: log of the share of each token's probability that counts for its set; None: all of it."""

    @classmethod
    def from_lists(
        cls,
        sets: Sequence[Sequence[int]],
        shares: Sequence[Sequence[float]] | None = None,
        device: torch.device | str | None = None,
    ) -> TokenSets:
        """Build from one list of token ids a set, and one of their shares in (0, 1] (None: 1).

        Raises ValueError where a set names a token twice, or has another number of shares than of tokens.
        """
        for index, tokens in enumerate(sets):
            if len(set(tokens)) != len(tokens):
                raise ValueError(
                    f"token set {index} contains the same token twice; its probability would be counted twice"
                )
        token_ids = [token for tokens in sets for token in tokens]
        set_ids = [index for index, tokens in enumerate(sets) for _ in tokens]
        log_shares = None
        if shares is not None:
            if [len(found) for found in shares] != [len(tokens) for tokens in sets]:
                raise ValueError("shares and token sets differ in length")
            flat = [share for found in shares for share in found]
            log_shares = torch.tensor(flat, dtype=torch.float32, device=device).log()
        as_tensor = {"dtype": torch.int64, "device": device}
        return cls(torch.tensor(token_ids, **as_tensor), torch.tensor(set_ids, **as_tensor), len(sets), log_shares)

    def to(self, device: torch.device | str) -> TokenSets:
        """The same sets on another device."""
        log_shares = None if self.log_shares is None else self.log_shares.to(device)
        return TokenSets(self.token_ids.to(device), self.set_ids.to(device), self.size, log_shares)


def set_log_probs(logits_NV: torch.Tensor, labels_N: torch.Tensor, sets: TokenSets) -> torch.Tensor:
    """Log-mass of every set and the label's own log-prob, at temperature 1 and in float32.

    Args:
        logits_NV: rows of raw logits, any floating dtype.
        labels_N: the token that follows each row, int64.
        sets: S sets.

    Returns:
        ``(N, S + 1)`` float32: log Σ_{t in set} share(t) · p(t) for each set (-inf for an empty one), then
        log p(label). The mass of a set that holds the label alone, in full, equals the last column.
    """
    logits_NV = logits_NV.float()
    log_z_N1 = logits_NV.logsumexp(-1, keepdim=True)
    own_N1 = logits_NV.gather(1, labels_N[:, None]) - log_z_N1
    log_probs_NM = logits_NV[:, sets.token_ids] - log_z_N1
    if sets.log_shares is not None:
        log_probs_NM = log_probs_NM + sets.log_shares
    index_NM = sets.set_ids.expand_as(log_probs_NM)
    # log-sum-exp by set, shifted by each set's maximum: masses far below the smallest float32 survive
    top_NS = log_probs_NM.new_full((len(logits_NV), sets.size), -torch.inf)
    top_NS = top_NS.scatter_reduce(1, index_NM, log_probs_NM, "amax")
    shift_NS = top_NS.nan_to_num(neginf=0.0)
    mass_NS = torch.zeros_like(shift_NS)
    mass_NS = mass_NS.scatter_add(1, index_NM, (log_probs_NM - shift_NS.gather(1, index_NM)).exp())
    return torch.cat([shift_NS + mass_NS.log(), own_N1], dim=1)
