"""verl's SFT dataset for clips: a plan of draws from the rows, each a prompt and the reply to learn.

A subclass says what a draw of a row asks and what it teaches (:meth:`OmniSFTDataset.draw`). Decoding, placeholders,
positions and caching are here, and the same as in RL: :class:`~verl_ext.data.encode.PromptEncoder` reads the clips.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import datasets
import torch
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from verl_ext.data.dataset import ShardError, build_messages, load_all
from verl_ext.data.encode import MediaConfig, PromptEncoder
from verl_ext.data.prompt_text import PromptTextError, check_text
from verl_ext.models.rope import position_ids


@dataclass(frozen=True)
class Draw:
    """One example.

    Attributes:
        prompt: the user's text with its media placeholders, e.g. `<video><audio>What …?`.
        given: what the reply is made to begin with; nothing is learnt from it.
        target: what follows, learnt together with the end of the turn.
    """

    prompt: str
    target: str
    given: str = ""


@dataclass(frozen=True)
class _Clip:
    """A row's media: one block of token ids an item (`<|vision_bos|>…<|vision_eos|>`), and the model's tensors."""

    blocks: list[list[int]]
    inputs: dict[str, torch.Tensor]


class OmniSFTDataset(Dataset):
    """Rows of clips for verl's SFT trainer (`data.custom_cls`), in no-padding mode.

    Item `i` is a draw: the rows are passed over in a new order each time, and the draw's random numbers depend on
    (`data.seed`, `i`) alone, so that a resumed or repeated run sees the same examples. `data.draws` items make an
    epoch; null means every row `data.passes` times (once where that is null, too).

    An item holds `input_ids (L,)`, `position_ids (4, L)` (text order, then M-RoPE's time, height, width),
    `loss_mask (L,)` and `multi_modal_inputs` (`pixel_values_videos`, `video_grid_thw`, `video_second_per_grid`,
    `input_features`, `feature_attention_mask`). A clip is decoded once and kept (some hundred kB each): set
    `data.cache_clips` to the number that fits in memory, or `data.cache_gb` to the memory that they may take (10⁹
    bytes; null: no limit). `data.num_workers` above 0 gives each worker its own cache.

    Args:
        parquet_files: one shard or several.
        tokenizer: the processor's tokenizer.
        config: verl's `data` node with `media`, `media_root`, `draws`, `passes`, `seed`, `cache_clips` and
            `cache_gb`.
        processor: a Qwen2_5OmniProcessor bound by :func:`verl_ext.models.processor.bind`.
        max_samples: keep that many rows; -1 keeps all.

    Raises:
        ShardError: a shard or one of its rows cannot be used.
    """

    def __init__(
        self,
        parquet_files: str | Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        config: DictConfig,
        processor: Any = None,
        max_samples: int = -1,
    ):
        if processor is None or not hasattr(processor, "rope"):
            raise ShardError(
                "clips need Qwen2.5-Omni's processor, but the model folder (model.path) does not contain it"
            )
        if config.pad_mode != "no_padding":
            raise ShardError(f"data.pad_mode must be no_padding, not {config.pad_mode}")
        self.tokenizer, self.processor, self.config = tokenizer, processor, config
        media = MediaConfig.from_config(OmegaConf.to_container(config.media, resolve=True))
        self.encoder = PromptEncoder(processor, media, cache_size=0)
        files = list(parquet_files) if isinstance(parquet_files, list | tuple | ListConfig) else [parquet_files]
        self.rows = load_rows(files, media.use_audio_in_video, max_samples, config.get("media_root"))
        self._clips: dict[str, _Clip] = {}
        self._limit = math.inf if config.get("cache_gb") is None else config.cache_gb * 1e9
        self._bytes = 0
        self._order: tuple[int, list[int]] = (-1, [])

    def draw(self, row: Mapping[str, Any], rng: random.Random) -> Draw:
        """What to ask about `row` and what to answer; chance only from `rng`."""
        raise NotImplementedError

    def __len__(self) -> int:
        return self.config.draws or len(self.rows) * (self.config.get("passes") or 1)

    def __getitem__(self, item: int) -> dict[str, Any]:
        row = self.rows[self._row_index(item)]
        draw = self.draw(row, random.Random(f"{self.config.seed}/{item}"))
        self._check_texts(row, draw)
        clip = self._clip(row)
        prompt = [*row["prompt"][:-1], {**row["prompt"][-1], "content": draw.prompt}]
        prompt_ids = splice_media(self._encode(self._render(row, prompt)), clip.blocks, self.processor)
        given = self._encode(draw.given) if draw.given else []
        target = [*self._encode(draw.target), self.tokenizer.eos_token_id]
        input_ids = torch.tensor(prompt_ids + given + target)
        if len(input_ids) > self.config.max_length:
            raise ShardError(
                f"row {row_name(row)}: {len(input_ids)} tokens ({len(prompt_ids)} in the prompt), over "
                f"data.max_length={self.config.max_length}. Raise the limit, or drop the row."
            )
        loss_mask = torch.zeros_like(input_ids)
        loss_mask[len(prompt_ids) + len(given) :] = 1
        return {
            "input_ids": input_ids,
            "position_ids": position_ids(self.processor.rope, input_ids, clip.inputs),
            "loss_mask": loss_mask,
            # Copies: a loader's worker moves what it sends to shared memory in a thread of its own, and meanwhile the
            # next draw of the same row would read tensors whose memory is being replaced.
            "multi_modal_inputs": {name: tensor.clone() for name, tensor in clip.inputs.items()},
        }

    def _check_texts(self, row: Mapping[str, Any], draw: Draw) -> None:
        special = self.tokenizer.all_special_tokens
        try:
            check_text(draw.prompt, "its prompt", placeholders=False, tokens=special)
            check_text(draw.given + draw.target, "what it teaches", tokens=special)
        except PromptTextError as error:
            raise ShardError(f"row {row_name(row)}: {error}") from error

    def _row_index(self, item: int) -> int:
        """The row of a draw: each pass over the rows has an order of its own."""
        turn, place = divmod(item, len(self.rows))
        if self._order[0] != turn:
            order = list(range(len(self.rows)))
            random.Random(f"{self.config.seed}/pass/{turn}").shuffle(order)
            self._order = (turn, order)
        return self._order[1][place]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _render(self, row: Mapping[str, Any], prompt: list[dict[str, Any]]) -> str:
        messages = build_messages({**row, "prompt": prompt})
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def _clip(self, row: Mapping[str, Any]) -> _Clip:
        """Decode a row's media, or recall them; the order of the items is that of the row's own prompt."""
        key = repr((row["videos"], row["audios"]))
        if key not in self._clips:
            media = [
                part
                for message in build_messages(row)
                if isinstance(message["content"], list)
                for part in message["content"]
                if part["type"] != "text"
            ]
            encoded = self.encoder([{"role": "user", "content": media}])
            ids = encoded.prompt_ids
            clip = _Clip([ids[start:end] for start, end in media_blocks(ids, self.processor)], encoded.inputs)
            size = sum(tensor.nbytes for tensor in clip.inputs.values())
            if len(self._clips) >= self.config.cache_clips or self._bytes + size > self._limit:
                return clip
            self._clips[key] = clip
            self._bytes += size
        return self._clips[key]


def load_rows(
    files: Sequence[str], use_audio_in_video: bool, max_samples: int = -1, media_root: str | None = None
) -> datasets.Dataset:
    """Read and check shards; the rows of all of them in order, `max_samples` at most (-1: all).

    Raises:
        ShardError: a shard or a row cannot be used; the message names it.
    """
    rows = load_all(files, media_root, use_audio_in_video)
    return rows.select(range(max_samples)) if 0 < max_samples < len(rows) else rows


def row_name(row: Mapping[str, Any]) -> str:
    """How messages call a row."""
    extra = row.get("extra_info") or {}
    return f"{extra.get('index', '?')} ({extra.get('name', 'unnamed')})"


def media_blocks(ids: Sequence[int], processor: Any) -> list[tuple[int, int]]:
    """The half-open ranges of `ids` that stand for media, from an item's begin token to its end token.

    An audio-in-video item is one range, `<|vision_bos|><|audio_bos|> … <|audio_eos|><|vision_eos|>`.

    Raises:
        ValueError: an item does not end.
    """
    closing = {
        processor.vision_bos_token_id: processor.vision_eos_token_id,
        processor.audio_bos_token_id: processor.audio_eos_token_id,
    }
    blocks, position = [], 0
    while position < len(ids):
        if ids[position] in closing:
            end = list(ids).index(closing[ids[position]], position) + 1
            blocks.append((position, end))
            position = end
        else:
            position += 1
    return blocks


def splice_media(ids: Sequence[int], blocks: Sequence[Sequence[int]], processor: Any) -> list[int]:
    """Put expanded media blocks in the place of a prompt's single-placeholder ones, in order.

    Raises:
        ValueError: the prompt has another number of media items than there are blocks.
    """
    places = media_blocks(ids, processor)
    if len(places) != len(blocks):
        raise ValueError(f"the prompt has {len(places)} media items, but the row has {len(blocks)}")
    spliced, position = [], 0
    for (start, end), block in zip(places, blocks, strict=True):
        spliced += [*ids[position:start], *block]
        position = end
    return [*spliced, *ids[position:]]
