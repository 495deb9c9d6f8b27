"""Models and shards of the Hugging Face hub: brought to this machine before a run, which then only sees local paths.

`OWNER/NAME`, where no such folder is there, or `hf://OWNER/NAME` names a model;
`hf://datasets/OWNER/NAME/PATH.parquet` a shard. What was brought before is taken from the hub's own cache, without a
net.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from omegaconf import DictConfig, ListConfig, OmegaConf

from recipe.mer_r1.run import output
from recipe.mer_r1.run.inputs import PreflightError, lacking
from recipe.mer_r1.run.sft_scoring import scores_clips_of_preset

SCHEME, DATASETS = "hf://", "hf://datasets/"
SECONDS = 5.0
"""For the hub's first answer."""
KEYS = {
    "ppo": {
        "preset.model_path": "preset.model_path",
        "actor_rollout_ref.model.path": "preset.model_path",
        "preset.train_files": "preset.train_files",
        "preset.val_files": "preset.val_files",
        "data.train_files": "preset.train_files",
        "data.val_files": "preset.val_files",
    },
    "sft": {
        "preset.sft.model_path": "preset.sft.model_path",
        "model.path": "preset.sft.model_path",
        "preset.sft.train_files": "preset.sft.train_files",
        "data.train_files": "preset.sft.train_files",
        "data.val_files": "data.val_files",
    },
}
"""By entry point: the keys that may name something on the hub, and what messages call them. See :func:`keys_of`."""
_MODEL = re.compile(r"[\w.-]+/[\w.-]+")
_SHARD = re.compile(r"([\w.-]+/[\w.-]+?)(?:@([\w.-]+))?/(.+)")


def keys_of(config_name: str, config: DictConfig) -> dict[str, str]:
    """Those of KEYS; for SFT also the preset's validation clips where this run reads them."""
    of_preset = {"preset.val_files": "preset.val_files"}
    return KEYS[config_name] | (of_preset if config_name == "sft" and scores_clips_of_preset(config) else {})


def bring(config: DictConfig, keys: dict[str, str]) -> None:
    """Put local paths in place of what the keys name on the hub.

    Raises:
        PreflightError: it is neither on this machine nor on the hub, or the hub cannot be asked.
    """
    for key, named in keys.items():
        value = OmegaConf.select(config, key)
        local = local_model if key.endswith(("model_path", "model.path")) else local_file
        if isinstance(value, ListConfig):
            OmegaConf.update(config, key, [local(str(each), named) for each in value])
        elif isinstance(value, str):
            OmegaConf.update(config, key, local(value, named))


def local_model(path: str, key: str) -> str:
    """The folder of a model; a path that cannot be a name on the hub, or whose parent folder exists, as it is.

    Args:
        path: a folder, OWNER/NAME, or hf://OWNER/NAME.
        key: what a message calls it.

    Raises:
        PreflightError: see :func:`bring`.
    """
    name = path.removeprefix(SCHEME)
    if path == name and (Path(path).exists() or Path(path).parent.is_dir()):
        return path  # a folder of this machine, there or not
    if not _MODEL.fullmatch(name) or name.startswith((".", "outputs/", "~")):
        if path == name:
            return path
        raise PreflightError(f"{key}={path}: write hf://OWNER/NAME for a model of the hub.")
    where = f"{key}={path}" + ("" if path != name else ": there is no such folder. As a name on the hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
        if _complete(folder):
            return str(folder)
    except LocalEntryNotFoundError:
        pass
    _ask(name, where, "model")
    output.say(f"{key}: bringing {name} from the hub")
    return _brought(lambda: snapshot_download(name), where)


def local_file(path: str, key: str) -> str:
    """The file of a shard; any path that does not begin with hf:// as it is.

    Raises:
        PreflightError: see :func:`bring`.
    """
    if not path.startswith(SCHEME):
        return path
    found = _SHARD.fullmatch(path.removeprefix(DATASETS)) if path.startswith(DATASETS) else None
    if not found:
        raise PreflightError(f"{key}={path}: write hf://datasets/OWNER/NAME/PATH.parquet for a shard of the hub.")
    name, revision, file = found.groups()
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    given = {"repo_id": name, "filename": file, "revision": revision, "repo_type": "dataset"}
    try:
        return hf_hub_download(**given, local_files_only=True)
    except LocalEntryNotFoundError:
        _ask(name, f"{key}={path}", "dataset")
    output.say(f"{key}: bringing {path} from the hub")
    return _brought(lambda: hf_hub_download(**given), f"{key}={path}")


def _complete(folder: Path) -> bool:
    """Whether a model's folder in the cache has all its files; one whose download was cut off has not."""
    index = folder / "model.safetensors.index.json"
    files = set(json.loads(index.read_text())["weight_map"].values()) if index.is_file() else set()
    return not lacking(folder) and all((folder / file).is_file() for file in files)


def _ask(name: str, where: str, kind: str) -> None:
    """Ask the hub whether it has this, for some seconds; PreflightError where it has not, or does not answer."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise PreflightError(
            f"{where}: it is not in the hub's cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE is set. "
            "Unset it where there is a net, or give a folder."
        )
    try:
        HfApi().repo_info(name, repo_type=kind, timeout=SECONDS)
    except GatedRepoError as error:
        raise PreflightError(
            f"{where}: {constants.ENDPOINT}/{name} is gated. Ask for access on its page, then run `hf auth login`."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise PreflightError(
            f"{where}: {constants.ENDPOINT} has no such {kind} either, or none that you may see. Correct the name, or "
            "give a folder."
        ) from error
    except HfHubHTTPError as error:
        raise PreflightError(f"{where}: {constants.ENDPOINT} answers: {str(error).splitlines()[0]}") from error
    except Exception as error:  # of the HTTP library in use, or of the system
        raise PreflightError(
            f"{where}: it is not in the hub's cache ({constants.HF_HUB_CACHE}), and {constants.ENDPOINT} cannot be "
            f"reached ({type(error).__name__}). Download it where there is a net, or give a folder."
        ) from error


def _brought(download: object, where: str) -> str:
    try:
        return download()
    except Exception as error:  # of the HTTP library in use, of the hub, or of the disk
        raise PreflightError(f"{where}: the download failed: {type(error).__name__}: {error}") from error
