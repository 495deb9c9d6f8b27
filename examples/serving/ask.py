"""Ask a served model about one clip, with the same frames and the same sound as in training.

vllm serve DIR …                       (docs/serving.md)
python examples/serving/ask.py CLIP.mp4 [--audio CLIP.wav] [--subtitle TEXT] [--fast] [--preset tiny]
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai import APIConnectionError, APIError, APIStatusError, OpenAI
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


def shown(reply: str, fast: bool) -> str:
    """The reply as it is printed. A fast one goes on behind `<answer>`: its words, without the tag that ends them."""
    return reply.strip().removesuffix("</answer>").rstrip() if fast else reply


def complaint(error: Exception, url: str) -> str:
    """What is wrong and how to fix it, in a line or two."""
    if isinstance(error, APIConnectionError):
        return f"no server answers at {url}. Start one with `vllm serve DIR` (docs/serving.md), or name it with --url."
    if isinstance(error, APIStatusError):
        return f"the server at {url} answers {error.status_code}: {error.message}"
    return str(error) or type(error).__name__


def main() -> int:
    """Print the model's reply; the exit code: 2 for a wrong input, 1 where the server fails, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path, help="the clip")
    parser.add_argument("--audio", type=Path, help="sound file; default: the sound in the video")
    parser.add_argument("--subtitle", default="", help="the spoken words")
    parser.add_argument("--fast", action="store_true", help="answer at once, without a thought")
    parser.add_argument("--preset", default="tiny", help="preset in conf/preset/ that the model was trained with")
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1", help="base URL of the server")
    parser.add_argument("--max-tokens", type=int, default=64, help="limit of the response in tokens")
    options = parser.parse_args()
    try:
        arguments = request(
            options.video, options.audio or options.video, options.subtitle, options.preset, fast=options.fast
        )
        print(shown(ask(options.url, options.max_tokens, arguments), options.fast))
    except (OSError, ValueError) as error:  # MediaError is one; an unknown preset, too
        print(f"ask: {error}", file=sys.stderr)
        return 2
    except APIError as error:
        print(f"ask: {complaint(error, options.url)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ask: interrupted", file=sys.stderr)
        return 130
    return 0


def ask(url: str, max_tokens: int, arguments: dict[str, Any]) -> str:
    """The text that the server's first model replies with.

    Raises:
        APIError: nobody listens at the URL, or the server refuses the request.
        ValueError: the server has no model.
    """
    client = OpenAI(base_url=url, api_key="none")
    models = client.models.list().data
    if not models:
        raise ValueError(f"the server at {url} has no model")
    reply = client.chat.completions.create(model=models[0].id, max_tokens=max_tokens, temperature=0, **arguments)
    return reply.choices[0].message.content or ""


if __name__ == "__main__":
    sys.exit(main())
