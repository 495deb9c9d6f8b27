"""One clip, one saved model: the slow and the fast answer, from Python (docs/python_api.md) and on the demo page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from recipe.mer_r1.eval.answer_modes import PREFIXES
from recipe.mer_r1.eval.generate import load_preset
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.answer import ONE_ANSWER, TWO_ANSWERS, early_part
from recipe.mer_r1.run import launch
from recipe.mer_r1.run.form import form_of

if TYPE_CHECKING:
    from recipe.mer_r1.eval.rollout import Reply, Rollout


def open_model(folder: str, preset: str = "tiny", changes: Sequence[str] = ()) -> Rollout:
    """Load a saved model into vLLM, with the preset's settings for clips, lengths and vLLM.

    Call it before your program imports torch, verl or vLLM: it sets the environment variables that they read at import
    (those that you have set stay as they are).

    Args:
        folder: full-Omni model, as main_sft and main_ppo write it.
        preset: of conf/preset/, that the model was trained with.
        changes: keys of the preset, such as ``media.fps=1``.

    Raises:
        ValueError: no such preset or key. InputError, which is one: the folder is missing or is not complete.
    """
    chosen = load_preset(preset, changes)
    launch.prepare_environment(chosen.device, folder)
    from recipe.mer_r1.eval.rollout import Rollout
    from recipe.mer_r1.run.inputs import PreflightError, check_model_folder

    try:
        check_model_folder(folder, "folder")
    except PreflightError as error:  # would end the caller's program
        raise InputError(str(error)) from None
    trained = form_of(folder)
    return Rollout(folder, chosen, chosen.max_response_length, trained.form if trained else ONE_ANSWER)


def ask(model: Rollout, row: Mapping[str, Any]) -> dict[str, Reply]:
    """The greedy replies to one clip, ``{"slow": …, "fast": …}``, made as `main_eval run` makes them.

    Of a model of the form answer_think_answer, both are of one response: "fast" is its part up to the first answer.

    Args:
        row: of a shard, or of a file (:func:`recipe.mer_r1.eval.demo_page.clips.uploaded`).

    Raises:
        InputError: `prompt`, `videos` or `audios` are not what docs/data.md says, or the prompt has a special token.
        MediaError: a clip is missing or cannot be decoded.
        TooLongError: names the clip and the limit.
    """
    from recipe.mer_r1.eval.rollout import Request
    from verl_ext.data.row_check import asked_faults, count_faults

    if faults := [*asked_faults(row)] or [*count_faults(row)]:
        name = (row.get("extra_info") or {}).get("name", "unnamed")
        raise InputError(f"the row of clip {name!r}: {'; '.join(faults)}")
    if model.form == TWO_ANSWERS:
        (reply,) = model([Request(row, "", temperature=0.0, seed=0)])
        return {"slow": reply, "fast": replace(reply, text=early_part(reply.text))}
    requests = [Request(row, prefix, temperature=0.0, seed=0) for prefix in PREFIXES.values()]
    return dict(zip(PREFIXES, model(requests), strict=True))
