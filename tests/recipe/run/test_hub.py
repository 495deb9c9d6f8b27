"""Names of the hub: from its cache without a net, from a server, and plain messages in seconds where there is none."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading
import time

import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.run import hub
from recipe.mer_r1.run.inputs import PreflightError

COMMIT = "a" * 40
FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "preprocessor_config.json": b"{}",
}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The hub's cache in a folder of its own; nothing of it is asked on the net."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hub"


def cached(cache, kind, name, files):
    folder = cache / f"{kind}s--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    for file, data in files.items():
        path = folder / "snapshots" / COMMIT / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "snapshots" / COMMIT


def test_a_cached_model_and_a_cached_shard_need_no_net(cache):
    model = cached(cache, "model", "Qwen/Omni", FILES)
    shard = cached(cache, "dataset", "me/corpus", {"shards/rl.parquet": b"rows"}) / "shards" / "rl.parquet"
    config = OmegaConf.create(
        {
            "preset": {"model_path": "Qwen/Omni", "train_files": "hf://datasets/me/corpus/shards/rl.parquet"},
            "data": {"train_files": ["hf://datasets/me/corpus/shards/rl.parquet", "here.parquet"]},
        }
    )
    hub.bring(config, hub.keys_of("ppo", config))
    assert config.preset == {"model_path": str(model), "train_files": str(shard)}
    assert config.data.train_files == [str(shard), "here.parquet"]
    assert hub.local_model("hf://Qwen/Omni", "--model") == str(model)


SHARD = "hf://datasets/me/corpus/test.parquet"


@pytest.mark.parametrize(
    ("score_every", "own", "brought"),
    [(0, [SHARD], "data"), (0, SHARD, "data"), (50, [SHARD], "data"), (50, None, "preset"), (0, None, None)],
)
def test_sft_brings_the_validation_clips_that_it_reads(score_every, own, brought, cache):
    shard = str(cached(cache, "dataset", "me/corpus", {"test.parquet": b"rows"}) / "test.parquet")
    preset = {"val_files": SHARD, "sft": {"model_path": ".", "score_every": score_every}}
    config = OmegaConf.create({"preset": preset, "data": {"train_files": ["here.parquet"], "val_files": own}})
    hub.bring(config, hub.keys_of("sft", config))
    assert config.preset.val_files == (shard if brought == "preset" else SHARD)
    assert config.data.val_files == (([shard] if isinstance(own, list) else shard) if brought == "data" else own)


def test_an_incomplete_model_in_the_cache_is_not_taken(cache):
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    files = FILES | {"model.safetensors.index.json": index, "model-1.safetensors": b"w"}
    cached(cache, "model", "Qwen/Omni", files)
    with pytest.raises(PreflightError, match=r"Qwen/Omni: there is no such folder.*HF_HUB_OFFLINE is set"):
        hub.local_model("Qwen/Omni", "preset.model_path")


@pytest.mark.parametrize("path", ["models/none", "./models/none", "outputs/tiny/model", "/no/where", "one", "a/b/c"])
def test_a_folder_that_is_missing_is_no_name(path, cache):
    """Its parent is there, or it cannot be a name: the check of the folder says that it is missing."""
    (cache.parent / "models").mkdir()
    assert hub.local_model(path, "--model") == path


@pytest.mark.parametrize(
    ("call", "path", "message"),
    [
        (hub.local_model, "hf://only", "--x=hf://only: write hf://OWNER/NAME"),
        (hub.local_file, "hf://me/corpus/rl.parquet", "write hf://datasets/OWNER/NAME/PATH.parquet"),
        (hub.local_file, "hf://datasets/me/corpus/rl.parquet", "--x=hf://datasets/me/corpus/rl.parquet: it is not in"),
    ],
)
def test_wrong_names_and_missing_files_are_told(call, path, message, cache):
    with pytest.raises(PreflightError) as raised:
        call(path, "--x")
    assert message in str(raised.value)


class Handler(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download asks for: one model."""

    def do_HEAD(self):
        self.reply(body=False)

    def do_GET(self):
        self.reply(body=True)

    def reply(self, body):
        file = self.path.rpartition("/")[2]
        if self.path.startswith("/api/models/Qwen/Omni/tree/"):
            tree = [{"type": "file", "path": name, "size": len(data), "oid": COMMIT} for name, data in FILES.items()]
            data = json.dumps(tree).encode()
        elif self.path.startswith("/api/models/Qwen/Omni"):
            listed = [{"rfilename": name} for name in FILES]
            data = json.dumps({"id": "Qwen/Omni", "modelId": "Qwen/Omni", "sha": COMMIT, "siblings": listed}).encode()
        elif self.path.startswith("/Qwen/Omni/resolve/") and file in FILES:
            data = FILES[file]
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_):
        pass


CALL = """
import sys
from recipe.mer_r1.run import hub
print(hub.local_model(sys.argv[1], "--model"))
"""


def call(folder, name, endpoint):
    """Exit code, stdout and stderr of a process with a cache of its own that asks this server."""
    environment = {"HF_HOME": str(folder / "home"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "PATH": ""}
    environment["PYTHONPATH"] = ":".join(sys.path)
    command = [sys.executable, "-c", CALL, name]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, timeout=60)
    return done.returncode, done.stdout.strip(), done.stderr


def test_a_server_is_asked_and_a_model_is_brought(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        endpoint = f"http://127.0.0.1:{server.server_port}"
        code, out, errors = call(tmp_path, "Qwen/Omni", endpoint)
        assert code == 0, errors
        assert out.endswith(f"models--Qwen--Omni/snapshots/{COMMIT}")
        assert (tmp_path / out / "model.safetensors").read_bytes() == b"weights"
        code, _, errors = call(tmp_path, "Qwen/Unknown", endpoint)
        assert code == 1
        assert "--model=Qwen/Unknown: there is no such folder. As a name on the hub" in errors
        assert f"{endpoint} has no such model either" in errors
    finally:
        server.shutdown()


def test_without_a_net_it_fails_in_seconds(tmp_path):
    start = time.monotonic()
    code, _, errors = call(tmp_path, "Qwen/Omni", "http://127.0.0.1:9")
    assert code == 1
    assert "http://127.0.0.1:9 cannot be reached" in errors
    assert "Traceback" not in errors
    assert time.monotonic() - start < 3 * hub.SECONDS
