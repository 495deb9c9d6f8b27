"""Start `vllm serve` on a model, ask it about one clip with examples/serving/ask.py, and end it.

python -m recipe.mer_r1.rehearse.serve --model DIR --shard FILE --preset NAME --out FILE [--tokens N] -- VLLM_OPTION …
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from recipe.mer_r1.files.whole import write_whole
from recipe.mer_r1.run import launch
from verl_ext.platform import ports

START_SECONDS, END_SECONDS = 600, 60
ASK = launch.CONF.parent / "examples" / "serving" / "ask.py"


class ServeError(RuntimeError):
    """The server did not start or did not answer."""


def main(argv: Sequence[str]) -> int:
    """Serve and ask; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m recipe.mer_r1.rehearse.serve", description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--shard", required=True, type=Path, help="shard whose first clip is asked about")
    parser.add_argument("--preset", required=True, help="preset that the model was trained with")
    parser.add_argument("--out", required=True, type=Path, help="file for the reply")
    parser.add_argument("--tokens", type=int, default=64, help="limit of the reply (default 64)")
    split = argv.index("--") if "--" in argv else len(argv)
    options = parser.parse_args(argv[:split])
    launch.prepare_environment("cpu", options.model)
    try:
        reply = serve_and_ask(options, list(argv[split + 1 :]))
    except ServeError as error:
        print(f"serve: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(options.out, reply.encode())
    print(f"reply: {reply}")
    return 0


def serve_and_ask(options: argparse.Namespace, vllm_options: list[str]) -> str:
    """The reply to the first clip of the shard.

    Raises:
        ServeError: the server ended or was not ready in time, or the request failed.
    """
    port = ports.free_port()
    command = ["-m", "vllm.entrypoints.cli.main", "serve", options.model, "--host", "127.0.0.1", "--port", str(port)]
    print("$ vllm " + " ".join([*command[2:], *vllm_options]), flush=True)
    server = subprocess.Popen([sys.executable, *command, *vllm_options])
    try:
        _await(f"http://127.0.0.1:{port}/health", server)
        return _ask(options, f"http://127.0.0.1:{port}/v1")
    finally:
        server.send_signal(signal.SIGINT)
        try:
            server.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _await(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise ServeError(f"vllm serve ended with exit status {server.returncode}; its messages are above")
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    raise ServeError(f"vllm serve was not ready after {START_SECONDS} s")


def _ask(options: argparse.Namespace, url: str) -> str:
    from verl_ext.data.dataset import load_shard

    row = load_shard(options.shard).to_list()[0]
    clip = [row["videos"][0], "--audio", row["audios"][0], "--subtitle", row["extra_info"]["subtitle"]]
    request = [*clip, "--preset", options.preset, "--url", url, "--max-tokens", str(options.tokens)]
    print("$ python examples/serving/ask.py " + " ".join(request), flush=True)
    done = subprocess.run([sys.executable, str(ASK), *request], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        raise ServeError(f"the request failed (exit status {done.returncode}) or the reply is empty")
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
