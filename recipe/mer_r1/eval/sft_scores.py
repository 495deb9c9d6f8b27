"""Slow and fast scores while SFT goes on: the model in training answers some clips, greedy, as `main_eval run` asks.

The prompts, the settings for clips and the scores are those of the evaluation. The answers come from transformers, and
those of `main_eval run` from vLLM. ``preset.sft.score_every`` and ``preset.sft.score_clips`` choose steps and clips.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from recipe.mer_r1.eval import records
from recipe.mer_r1.eval.answer_modes import PREFIXES
from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.method.answer import TWO_ANSWERS
from recipe.mer_r1.method.wheel import load_wheels
from recipe.mer_r1.run.preflight import ENCODED_ROWS
from recipe.mer_r1.run.sft_scoring import scored_files

if TYPE_CHECKING:
    from verl_ext.models.greedy import Prompt

SCORES = ("f1", "recall", "precision", "format")
FOLDER = "validation"
"""In the run's folder: STEP.jsonl, in the form in which verl writes RL's validations."""
_MORE_TOKENS = 4
"""A batch of answers may have this many times the tokens of a micro-batch: it needs no gradients, and logits only of
one place in each row."""


@dataclass(frozen=True)
class Scored:
    """What one scoring found; the same on every rank.

    Attributes:
        metrics: by RL's names, ``val-aux/SOURCE/slow/f1/mean@1`` …, with ``val/failed`` and ``perf/score_seconds``.
        text: for the screen.
        warning: which clips failed; empty where none did.
    """

    metrics: dict[str, float]
    text: str
    warning: str = ""


class ClipScores:
    """Answers the first clips of the validation shards with the model in training, and scores them.

    Args:
        config: of main_sft.
        processor: of the model, bound by :func:`verl_ext.models.processor.bind`.

    Raises:
        ShardError: a shard or a row cannot be used.
        WheelError: the official wheels cannot be used.
    """

    def __init__(self, config: DictConfig, processor: Any):
        from recipe.mer_r1.eval.rollout import ban
        from verl_ext.data.encode import MediaConfig, PromptEncoder

        preset = config.preset
        self.rows = load_rows(config)
        self.wheels = load_wheels(config.mer_r1.wheels.folder)
        self.form = config.data.form
        self.modes = ("slow",) if self.form == TWO_ANSWERS else (*PREFIXES,)
        media = MediaConfig.from_config(OmegaConf.to_container(config.data.media, resolve=True))
        self.encoder = PromptEncoder(processor, media, preset.prompt_cache_size, cache_gb=preset.prompt_cache_gb)
        self.folder = Path(config.run_dir) / FOLDER
        self.max_prompt, self.max_tokens = preset.max_prompt_length, preset.max_response_length
        self.tokens_at_once = _MORE_TOKENS * config.data.micro_batch_size_per_gpu * config.data.max_length
        vocabulary = processor.config.thinker_config.text_config.vocab_size
        self.banned = [*ban(processor, vocabulary)]
        self.ends = ends(config.model.path, processor.tokenizer.eos_token_id)

    def __call__(self, engine: Any, step: int) -> Scored:
        """To be called on every rank at the same step; the first rank writes the answers.

        Args:
            engine: verl's, of the model in training.
        """
        import torch.distributed as dist

        start = time.perf_counter()
        rank, ranks = engine.get_data_parallel_rank(), engine.get_data_parallel_size()
        own = self._answer(engine, range(rank, len(self.rows), ranks))
        lines = sorted(_of_all_ranks(own), key=lambda line: (line["index"], line["mode"] != "slow"))
        if dist.get_rank() == 0:
            self._write(lines, step)
        return summary(lines, time.perf_counter() - start)

    def check_prompts(self) -> None:
        """Encode a few prompts.

        Raises:
            ValueError: a prompt is too long, or cannot ask for the form. A clip that cannot be decoded is none: it
                counts as wrong.
        """
        from recipe.mer_r1.eval.rollout import encoded_prompt
        from verl_ext.data.source import MediaError

        for place in range(0, len(self.rows), max(1, len(self.rows) // ENCODED_ROWS)):
            for mode in self.modes:
                with suppress(MediaError):
                    encoded_prompt(self.rows[place], PREFIXES[mode], self.form, self.encoder, self.max_prompt)

    def _answer(self, engine: Any, places: Sequence[int]) -> list[dict[str, Any]]:
        """The lines of some clips. Slow answers first: a batch takes as long as its longest answer."""
        asked = [(mode, place) for mode in self.modes for place in places]
        failed: dict[tuple[str, int], str] = {}
        texts: dict[tuple[str, int], str] = {}
        found = engine.answers(
            self._prompts(asked, texts, failed), self.max_tokens, self.ends, self.banned, self.tokens_at_once
        )
        answers = dict(zip((key for key in asked if key not in failed), found, strict=True))
        lines = []
        for mode, place in asked:
            lines += self._lines(mode, place, answers.get((mode, place), []), failed.get((mode, place)), texts)
        return lines

    def _prompts(
        self, asked: Sequence[tuple[str, int]], texts: dict[tuple[str, int], str], failed: dict[tuple[str, int], str]
    ) -> Iterator[Prompt]:
        """The prompts of the clips that can be read; fills `texts` with the prompts, `failed` with the reasons."""
        from recipe.mer_r1.eval.rollout import encoded_prompt
        from verl_ext.models.greedy import Prompt

        tokenizer, in_video = self.encoder.processor.tokenizer, self.encoder.media.use_audio_in_video
        for mode, place in asked:
            row = self.rows[place]
            texts[mode, place] = f"{row['prompt'][-1]['content']}\nassistant\n{PREFIXES[mode]}"
            try:
                encoded, ids = encoded_prompt(row, PREFIXES[mode], self.form, self.encoder, self.max_prompt)
            except Exception as error:  # whatever a clip does, the training goes on, and the clip counts as wrong
                failed[mode, place] = str(error) or type(error).__name__
                continue
            texts[mode, place] = tokenizer.decode(ids, skip_special_tokens=True)
            yield Prompt(ids, encoded.inputs, in_video and "pixel_values_videos" in encoded.inputs)

    def _lines(
        self, mode: str, place: int, ids: list[int], reason: str | None, texts: Mapping[tuple[str, int], str]
    ) -> list[dict[str, Any]]:
        row, form = self.rows[place], self.form
        text = self.encoder.processor.tokenizer.decode(ids, skip_special_tokens=True)
        if reason is not None:
            line = records.failure(row, place, reason, self.wheels, form=form)
        else:
            line = records.record(row, place, PREFIXES[mode] + text, self.wheels, form=form)
            line |= {"tokens": len(ids), "finished": bool(ids) and ids[-1] in self.ends}
        line |= {"mode": mode, "input": texts[mode, place], "output": text if reason is None else ""}
        if form != TWO_ANSWERS:
            return [line]
        return [line, records.first_answer(line, self.wheels) | {"mode": "fast"}]

    def _write(self, lines: Sequence[Mapping[str, Any]], step: int) -> None:
        """The answers as verl writes those of RL's validation; the live page shows some of them."""
        kept = ("input", "output", *SCORES, "num_words", "failed")
        found = []
        for line in lines:
            if self.form == TWO_ANSWERS and line["mode"] == "fast":
                continue  # a part of the slow answer
            about = {"clip": line["name"], "gts": line["labels"], "step": step}
            found.append(about | {name: line[name] for name in kept if name in line})
        self.folder.mkdir(parents=True, exist_ok=True)
        content = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found)
        write_whole(self.folder / f"{step}.jsonl", content.encode())


def load_rows(config: DictConfig) -> Any:
    """The first `preset.sft.score_clips` rows of the validation shards (-1: all), checked as for training.

    Raises:
        ShardError: a shard or a row cannot be used.
    """
    from verl_ext.data.dataset import join, load_clips

    files, limit = scored_files(config), config.preset.sft.score_clips
    root, in_video = config.data.get("media_root"), bool(config.data.media.use_audio_in_video)
    rows = join([load_clips(file, root, in_video, labelled=False) for file in files], files)
    return rows.select(range(limit)) if 0 <= limit < len(rows) else rows


def ends(model: str, of_tokenizer: int) -> list[int]:
    """The ids that end an answer, as vLLM takes them: the tokenizer's, and those of generation_config.json."""
    from transformers import GenerationConfig

    try:
        found = GenerationConfig.from_pretrained(model).eos_token_id
    except OSError:  # the folder has none
        found = None
    more = found if isinstance(found, list) else [found]
    return [of_tokenizer, *(token for token in more if token not in (None, of_tokenizer))]


def summary(lines: Sequence[Mapping[str, Any]], seconds: float) -> Scored:
    """The means by source and mode as metrics, and over all sources as text.

    Args:
        lines: of `records.record`, with their `mode`.
        seconds: that the scoring took.
    """
    metrics: dict[str, float] = {}
    parts, n = [], 0
    for mode in PREFIXES:
        own = [line for line in lines if line["mode"] == mode]
        for source in dict.fromkeys(line["data_source"] for line in own):
            means = records.means(line for line in own if line["data_source"] == source)
            metrics |= {f"val-aux/{source}/{mode}/{name}/mean@1": means[name] for name in SCORES if means["n"]}
        means = records.means(own)
        n = means["n"]
        if n:
            names = {"f1": "F1", "recall": "R", "precision": "P", "format": "format"}
            parts.append(f"{mode} " + " ".join(f"{names[name]} {means[name]:.3f}" for name in SCORES))
    failed = {line["index"]: line for line in lines if "failed" in line}
    metrics |= {"val/failed": float(len(failed)), "perf/score_seconds": seconds}
    text = f"{'; '.join(parts)} ({n} clips, {seconds:.1f} s)" if n else "no label of the clips is on a wheel"
    warning = ""
    if failed:
        first = next(iter(failed.values()))
        total = len({line["index"] for line in lines})
        warning = (
            f"{len(failed)} of {total} clips failed and count as wrong. The first is {first['name']!r}: "
            f"{first['failed']}"
        )
    return Scored(metrics, text, warning)


def _of_all_ranks(own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    import torch.distributed as dist

    if dist.get_world_size() == 1:
        return own
    every: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(every, own)
    return [line for lines in every for line in lines]
