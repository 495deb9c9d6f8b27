"""The part of a model card that says how to ask the model: its prompt, and a program that runs as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipe.mer_r1.method.answer import ONE_ANSWER, ask_for, build_prompt
from recipe.mer_r1.run.form import of_lineage

MEDIA = {"fps": 2.0, "max_frames": 32, "max_seconds": 60.0, "sampling_rate": 16_000, "min_pixels": 50_176}
MEDIA |= {"max_pixels": 100_352}
"""Of the preset omni7b; for a run whose configuration was not found."""
_CLASS = {False: "Qwen2_5OmniThinkerForConditionalGeneration", True: "Qwen2_5OmniForConditionalGeneration"}
_PROGRAM = '''import torch
from transformers import AutoProcessor, {model_class}
from verl_ext.data.media import read_audio, read_video  # of the project that trained the model

MODEL, CLIP, SUBTITLE = ".", "clip.mp4", "{subtitle}"
processor = AutoProcessor.from_pretrained(MODEL)
model = {model_class}.from_pretrained(MODEL, dtype="auto").eval()
video = read_video(CLIP, {fps}, {max_frames})
sound = read_audio(CLIP, {sampling_rate}, {max_seconds})
prompt = f"""{prompt}"""
content = [{{"type": "video", "video": CLIP}}, {{"type": "audio", "audio": CLIP}}, {{"type": "text", "text": prompt}}]
text = processor.apply_chat_template(
    [{{"role": "user", "content": content}}], tokenize=False, add_generation_prompt=True
)
inputs = processor(
    text=[text], videos=[video.frames_TCHW], audio=[sound], return_tensors="pt", fps=round(video.fps, 4),
    sampling_rate={sampling_rate}, min_pixels={min_pixels}, max_pixels={max_pixels}, use_audio_in_video=False,
)
with torch.inference_mode():
    reply = model.{generate}(**inputs, max_new_tokens={tokens}, do_sample=False)
print(processor.batch_decode(reply[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)[0])'''
_SUBTITLE = "I am fine."


def usage(lineage: Mapping[str, Any], full: bool) -> list[str]:
    """The lines of the sections "Prompt" and "Use".

    Args:
        lineage: of :func:`recipe.mer_r1.export.lineage.gather`.
        full: whether talker and token2wav are in the folder.
    """
    form = of_lineage(lineage) or ONE_ANSWER
    prompt = ask_for(form, build_prompt(_SUBTITLE)).removeprefix("<video><audio>")
    data = ((lineage["stages"][0]["config"] or {}).get("data")) or {}
    media = MEDIA | {key: value for key, value in (data.get("media") or {}).items() if key in MEDIA}
    program = _PROGRAM.format(
        model_class=_CLASS[full],
        subtitle=_SUBTITLE,
        prompt=prompt.replace(_SUBTITLE, "{SUBTITLE}"),
        tokens=data.get("max_response_length") or 512,
        generate="thinker.generate" if full else "generate",
        **media,
    )
    return [
        "## Prompt",
        "",
        "One user turn: the video, its sound, then this text (without a subtitle, the first line is empty):",
        "",
        *("    " + line for line in prompt.split("\n")),
        "",
        "## Use",
        "",
        "In the environment of the project that trained the model. Frames and sound are read as in training:",
        "",
        "```python",
        program,
        "```",
    ]
