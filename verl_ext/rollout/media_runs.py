"""Where encoder outputs go in a batch of prompts: run by run, a run being media tokens without a gap. Tensors only."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def scatter_runs(
    inputs_embeds: torch.Tensor,
    embeddings: Sequence[torch.Tensor],
    is_multimodal: torch.Tensor,
    is_video: torch.Tensor,
) -> torch.Tensor:
    """Put the encoders' outputs in their places.

    A run belongs to one item, or to a video with its sound, whose tokens alternate. Their outputs come as two items,
    told apart by their numbers of rows; of equal numbers the video comes first, as vLLM lists them.

    Args:
        inputs_embeds: ``(T, hidden)`` of the tokens of all prompts, laid end to end; changed in place.
        embeddings: outputs ``(n_i, hidden)`` in the order of their places.
        is_multimodal: ``(T,)`` bool.
        is_video: ``(T,)`` bool, a part of ``is_multimodal``.

    Returns:
        ``inputs_embeds``.

    Raises:
        ValueError: outputs and places do not fit.
    """
    places = is_multimodal.nonzero().squeeze(-1).cpu()
    video = is_video.cpu()[places]
    breaks = (places.diff() > 1).nonzero().squeeze(-1) + 1
    left = [embedding for embedding in embeddings if len(embedding)]
    for run, in_video in zip(places.tensor_split(breaks), video.tensor_split(breaks), strict=True):
        for at, values in _assign(run, in_video, _take(left, len(run))):
            inputs_embeds[at.to(inputs_embeds.device)] = values.to(inputs_embeds.dtype)
    if left:
        raise ValueError(f"{len(left)} encoder outputs are left: there are fewer media tokens than outputs")
    return inputs_embeds


def _take(left: list[torch.Tensor], rows: int) -> list[torch.Tensor]:
    """The next outputs, with that many rows together; they leave the list."""
    taken, found = [], 0
    while found < rows and left:
        taken.append(left.pop(0))
        found += len(taken[-1])
    if found != rows:
        raise ValueError(f"a run of {rows} media tokens has encoder outputs for {found}")
    return taken


def _assign(
    run: torch.Tensor, in_video: torch.Tensor, taken: list[torch.Tensor]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Places and outputs of each item of a run."""
    rows = [len(embedding) for embedding in taken]
    if in_video.all() or not in_video.any():
        return list(zip(run.split(rows), taken, strict=True))
    counts = [int(in_video.sum()), int((~in_video).sum())]
    if sorted(rows) != sorted(counts):
        raise ValueError(f"a run of {counts[0]} video and {counts[1]} audio tokens has encoder outputs for {rows}")
    video, audio = taken if rows == counts else reversed(taken)
    return [(run[in_video], video), (run[~in_video], audio)]
