"""Start a web page that shows, for a clip, the slow and fast answers and the confidence of every category.

    python -m recipe.mer_r1.main_eval demo --model DIR [--shard FILE.parquet]

Clips are decoded, encoded and answered (greedily) as in `main_eval run`. The page loads nothing from the internet and
sends nothing to it. Uploaded clips are deleted when the page ends (Ctrl-C).
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from recipe.mer_r1.eval.clip_sets import load_clip_sets
from recipe.mer_r1.eval.generate import load_preset
from recipe.mer_r1.files import exits
from recipe.mer_r1.files.errors import InputError
from recipe.mer_r1.method.answer import ONE_ANSWER
from recipe.mer_r1.method.wheel import EmotionWheels, load_wheels
from recipe.mer_r1.run import launch
from recipe.mer_r1.run.form import form_of

TITLE = "MER-R1: slow and fast answers"
PRIVATE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
"""Set before gradio is imported, whatever the user's environment says."""


def parser(prog_name: str) -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog=prog_name, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--model", required=True, help="folder of a full-Omni model, as main_sft and main_ppo write it")
    result.add_argument("--preset", default="tiny", help="conf/preset/NAME.yaml: media, vLLM and length settings")
    result.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="change keys of the preset: media.fps=1 …"
    )
    result.add_argument("--wheels", help="official wheels: a folder, or wheel_mapping.npz; default: the built-in table")
    result.add_argument("--shard", type=Path, help="parquet shard; its clips can be chosen, with labels")
    result.add_argument(
        "--media-root", type=Path, help="folder that the shard's relative paths start from; default: its own"
    )
    result.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: other machines can connect")
    result.add_argument("--port", type=int, default=7860, help="port to listen on (default 7860)")
    return result


def app(arguments: Sequence[str], prog_name: str = "main_eval demo") -> None:
    """The subcommand. Exits with 2 and a message where the input is at fault."""
    chosen = parser(prog_name).parse_args(arguments)
    with exits.input_faults(prog_name, ValueError, OSError):  # ShardError, WheelError and the like are ValueErrors
        run(chosen)


def run(arguments: argparse.Namespace) -> None:
    """Check, load the model, serve until Ctrl-C."""
    from recipe.mer_r1.run.inputs import check_model_folder

    preset = load_preset(arguments.preset, arguments.set)
    check_model_folder(arguments.model, "--model")
    check_one_answer(arguments.model)
    wheels = load_wheels(arguments.wheels)
    check_gradio()
    check_port(arguments.host, arguments.port)
    launch.prepare_environment(preset.device, arguments.model)
    shards = [arguments.shard] if arguments.shard else []
    sets = load_clip_sets(shards, arguments.media_root, preset.media.use_audio_in_video, None)
    rows = [row for clips in sets for row in clips.rows]
    # Stopped by a scheduler as by Ctrl-C: the folder of uploads goes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="mer-r1-demo-") as folder:
        os.environ.update(PRIVATE, GRADIO_TEMP_DIR=f"{folder}/uploads")
        reach_itself(arguments.host)
        serve(arguments, preset, wheels, rows, Path(folder))


def serve(
    arguments: argparse.Namespace, preset: DictConfig, wheels: EmotionWheels, rows: Sequence[Mapping], folder: Path
) -> None:
    """Load the model and serve the page."""
    print(f"loading {arguments.model} …", flush=True)
    from recipe.mer_r1.eval.demo_page.answering import Answering
    from recipe.mer_r1.eval.demo_page.app import HEAD, THEME, build
    from recipe.mer_r1.eval.demo_page.markup import CSS
    from recipe.mer_r1.eval.demo_page.page import Page

    page = Page(Answering(arguments.model, preset, wheels), wheels, rows, folder)
    blocks = build(page, facts(arguments.model, preset, wheels), TITLE)
    _, address, _ = blocks.launch(
        server_name=arguments.host,
        server_port=arguments.port,
        theme=THEME,
        css=CSS,
        head=HEAD,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        run_history=False,
        enable_monitoring=False,
        footer_links=[],
        prevent_thread_lock=True,
        quiet=True,
    )
    print(f"the page is at {address} (stop it with Ctrl-C)", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        blocks.close(verbose=False)


def facts(model: str, preset: DictConfig, wheels: EmotionWheels) -> dict[str, str]:
    """What the answers depend on, by name."""
    media = preset.media
    least = "" if media.min_pixels == media.max_pixels else f"{media.min_pixels} to "
    sound = (
        "the video's own track, interleaved with the frames" if media.use_audio_in_video else "separate from the video"
    )
    identity = wheels.identity
    return {
        "model": model,
        "answers": f"greedy, at most {preset.max_response_length} tokens; vLLM, {preset.rollout.dtype}",
        "media": f"preset {preset.name}: {media.fps:g} frames per second, at most {media.max_frames}, "
        f"{least}{media.max_pixels} pixels each; sound {sound}, {media.sampling_rate} Hz, "
        f"at most {media.max_seconds:g} s",
        "wheels": f"{identity['name']} {identity['version']} (sha256 {identity['sha256'][:12]}…)",
    }


def reach_itself(host: str) -> None:
    """Keep this machine out of a proxy's hands: gradio asks its own server whether it is up."""
    names = ("no_proxy", "NO_PROXY")
    known = [os.environ[name] for name in names if os.environ.get(name)]
    os.environ.update(dict.fromkeys(names, ",".join([*known, "127.0.0.1", "localhost", host])))


def check_one_answer(model: str) -> None:
    """Raises InputError for a model that answers twice: the page compares answers with and without a thought."""
    trained = form_of(model)
    if trained and trained.form != ONE_ANSWER:
        raise InputError(
            f"--model {model}: was trained with the form {trained.form} ({trained.source}), but the page asks for a "
            "thought first; use `main_eval run`, or ask() from Python"
        )


def check_gradio() -> None:
    """Raises InputError where gradio is not installed."""
    if find_spec("gradio") is None:
        raise InputError("gradio is not installed: run `make setup`, or pip install -e '.[demo]'")


def check_port(host: str, port: int) -> None:
    """Raises InputError where the page could not listen, before a model is loaded."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind((host, port))
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--host {host} --port {port}: cannot listen on this port ({error}); choose another --port"
        ) from error
