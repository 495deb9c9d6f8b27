"""Ask a served model about one clip, with the same frames and the same sound as in training.

vllm serve DIR …                       (docs/serving.md)
python examples/serving/ask.py CLIP.mp4 [--audio CLIP.wav] [--subtitle TEXT] [--fast] [--preset tiny]
"""

from __future__ import annotations

import argparse
import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai import OpenAI
from PIL import Image

from data_prep.media import encode_wav, pcm16
from recipe.mer_r1.eval.generate import load_preset
from recipe.mer_r1.method.answer import FAST_PREFIX, build_prompt
from verl_ext.data.media import read_audio, read_video

if TYPE_CHECKING:
    import torch


def frames_url(frames_TCHW: torch.Tensor) -> str:
    """Frames as vLLM's URL of a sequence of pictures. It says jpeg; PNG is read as well, and loses nothing."""
    pictures = []
    for frame in frames_TCHW.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "PNG")
        pictures.append(base64.b64encode(file.getvalue()).decode())
    return f"data:video/jpeg;base64,{','.join(pictures)}"


def request(video: Path, audio: Path, subtitle: str, preset: str, fast: bool = False) -> dict[str, Any]:
    """Arguments of ``client.chat.completions.create`` but the model: frames, sizes and rate as the model was trained.

    Args:
        video: the clip.
        audio: its sound; the clip itself where the sound is in it.
        subtitle: what the person says.
        preset: of conf/preset/, that the model was trained with.
        fast: begin the reply with an emptied thought (Eq. 8).

    Raises:
        MediaError: a file is missing or cannot be decoded.
    """
    media = load_preset(preset, []).media
    seen = read_video(video, media.fps, media.max_frames)
    heard = encode_wav(pcm16(read_audio(audio, media.sampling_rate, media.max_seconds)), media.sampling_rate)
    content = [
        {"type": "video_url", "video_url": {"url": frames_url(seen.frames_TCHW)}},
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{base64.b64encode(heard).decode()}"}},
        {"type": "text", "text": build_prompt(subtitle).removeprefix("<video><audio>")},
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    extra: dict[str, Any] = {
        "media_io_kwargs": {"video": {"num_frames": len(seen.frames_TCHW)}},
        "mm_processor_kwargs": {
            "min_pixels": media.min_pixels,
            "max_pixels": media.max_pixels,
            "fps": round(seen.fps, 4),
        },
    }
    if fast:
        messages.append({"role": "assistant", "content": FAST_PREFIX})
        extra |= {"add_generation_prompt": False, "continue_final_message": True}
    return {"messages": messages, "extra_body": extra}


def main() -> None:
    """Print the model's reply."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path, help="the clip")
    parser.add_argument("--audio", type=Path, help="sound file; default: the sound in the video")
    parser.add_argument("--subtitle", default="", help="the spoken words")
    parser.add_argument("--fast", action="store_true", help="answer at once, without a thought")
    parser.add_argument("--preset", default="tiny", help="preset in conf/preset/ that the model was trained with")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="base URL of the server")
    parser.add_argument("--max-tokens", type=int, default=64, help="limit of the response in tokens")
    options = parser.parse_args()
    client = OpenAI(base_url=options.url, api_key="none")
    arguments = request(
        options.video, options.audio or options.video, options.subtitle, options.preset, fast=options.fast
    )
    model = client.models.list().data[0].id
    reply = client.chat.completions.create(model=model, max_tokens=options.max_tokens, temperature=0, **arguments)
    print(reply.choices[0].message.content)


if __name__ == "__main__":
    main()
