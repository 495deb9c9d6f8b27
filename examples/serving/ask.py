"""Ask a served model about one clip: picture and sound go with the request, as data URLs.

vllm serve DIR …                       (docs/serving.md)
python examples/serving/ask.py CLIP.mp4 [--audio CLIP.wav] [--subtitle TEXT] [--fast] [--preset tiny]
"""

from __future__ import annotations

import argparse
import base64
import mimetypes
from pathlib import Path
from typing import Any

from openai import OpenAI

from recipe.mer_r1.answer import FAST_PREFIX, build_prompt
from recipe.mer_r1.eval.generate import load_preset


def data_url(path: Path) -> str:
    """The file's content as a URL."""
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def request(video: Path, audio: Path, subtitle: str, preset: str, fast: bool = False) -> dict[str, Any]:
    """Arguments of ``client.chat.completions.create`` but the model: frames and sizes as the model was trained.

    Args:
        video: the clip.
        audio: its sound; the clip itself where the sound is in it.
        subtitle: what the person says.
        preset: of conf/preset/, that the model was trained with.
        fast: begin the reply with an emptied thought (Eq. 8).
    """
    media = load_preset(preset, []).media
    text = build_prompt(subtitle).removeprefix("<video><audio>")
    messages = [
        {
            "role": "user",
            "content": [
                {"type": "video_url", "video_url": {"url": data_url(video)}},
                {"type": "audio_url", "audio_url": {"url": data_url(audio)}},
                {"type": "text", "text": text},
            ],
        }
    ]
    extra: dict[str, Any] = {
        "media_io_kwargs": {"video": {"fps": media.fps, "max_frames": media.max_frames, "min_frames": 2}},
        "mm_processor_kwargs": {"min_pixels": media.min_pixels, "max_pixels": media.max_pixels, "fps": media.fps},
    }
    if fast:
        messages.append({"role": "assistant", "content": FAST_PREFIX})
        extra |= {"add_generation_prompt": False, "continue_final_message": True}
    return {"messages": messages, "extra_body": extra}


def main() -> None:
    """Print the model's reply."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--audio", type=Path, help="default: the sound in the video")
    parser.add_argument("--subtitle", default="")
    parser.add_argument("--fast", action="store_true", help="no thought: the answer at once")
    parser.add_argument("--preset", default="tiny", help="of conf/preset/, that the model was trained with")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--max-tokens", type=int, default=64)
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
