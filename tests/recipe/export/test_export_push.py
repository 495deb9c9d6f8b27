"""The upload: what is refused before the export, what the dry run lists, what the hub is asked to do."""

import types

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from recipe.mer_r1.export import push
from recipe.mer_r1.export.__main__ import main


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, size in (("README.md", 10), ("lineage.json", 20), ("config.json", 30), ("model.safetensors", 2_000_000)):
        (folder / name).write_bytes(b"x" * size)
    return folder


@pytest.fixture
def hub(monkeypatch):
    """A hub that remembers what it is asked; `hub.error` is raised where it is set."""
    asked = types.SimpleNamespace(calls=[], error=None)

    class Api:
        def create_repo(self, name, **options):
            asked.calls.append(("create", name, options))
            if asked.error:
                raise asked.error

        def upload_folder(self, **options):
            asked.calls.append(("upload", options["repo_id"], str(options["folder_path"])))
            return types.SimpleNamespace(commit_url="https://hub/commit/1")

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_x")
    return asked


def test_an_export_that_is_there_is_uploaded_as_it_is(out, hub, capsys):
    assert main(["no-run", "--out", str(out), "--push", "me/mer"]) == 0
    assert hub.calls == [("create", "me/mer", {"private": True, "exist_ok": True}), ("upload", "me/mer", str(out))]
    assert "4 files, 2.0 MB uploaded: https://hub/commit/1" in capsys.readouterr().out
    hub.calls.clear()
    assert main(["no-run", "--out", str(out), "--push", "me/mer", "--public"]) == 0
    assert hub.calls[0][2]["private"] is False


def test_the_dry_run_asks_nobody(out, hub, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert main(["no-run", "--out", str(out), "--push", "me/mer", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "dry run: 4 files, 2.0 MB would go to me/mer (private where it is new)" in said
    assert "  model.safetensors  2,000,000 bytes" in said
    assert hub.calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--push", "a/b/c"], "--push a/b/c: Repo id must be in the form"),
        (["--push", "mer"], "--push mer: give OWNER/NAME"),
        (["--push", "me/mer"], "no token for huggingface.co. Run `hf auth login`"),
        (["--dry-run"], "are for --push OWNER/NAME"),
    ],
)
def test_what_is_refused_before_anything_is_read(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert main(["no-run", "--out", str(tmp_path / "new"), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_hub_that_cannot_be_reached_is_a_failure_and_the_export_stays(out, hub, capsys):
    hub.error = OSError("no route to host")
    assert main(["no-run", "--out", str(out), "--push", "me/mer"]) == 1
    assert "the upload failed: no route to host" in capsys.readouterr().err
    hub.error = OfflineModeIsEnabled("offline")
    with pytest.raises(push.PushError, match="HF_HUB_OFFLINE is set"):
        push.push(out, push.Target("me/mer"))
    assert push.is_export(out)
