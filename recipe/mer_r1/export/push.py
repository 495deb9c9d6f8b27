"""Upload an exported folder to a repository of Hugging Face's hub, by huggingface_hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recipe.mer_r1.files.errors import InputError

NEEDED = ("README.md", "lineage.json", "config.json")
"""What an export has, whichever model it is of."""


class PushError(RuntimeError):
    """The hub could not be reached, or it refused; the message says what to do."""


@dataclass(frozen=True)
class Target:
    """A repository `OWNER/NAME`; a new one is private unless `public`. `dry` uploads nothing."""

    name: str
    public: bool = False
    dry: bool = False


def check(target: Target) -> None:
    """Before the export, which takes long: the name can be one, and there is a token.

    Raises:
        InputError: one of them is not so.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(target.name)
    except HFValidationError as error:
        raise InputError(f"--push {target.name}: {error}") from error
    if "/" not in target.name:
        raise InputError(f"--push {target.name}: give OWNER/NAME, where OWNER is your account or organisation")
    if not target.dry and not get_token():
        raise InputError(
            f"--push {target.name}: no token for huggingface.co. Run `hf auth login`, or set HF_TOKEN; --dry-run shows "
            "what would be uploaded without one"
        )


def is_export(folder: Path) -> bool:
    """Whether a folder is a complete export, which can be uploaded as it is."""
    return all((folder / name).is_file() for name in NEEDED)


def push(folder: Path, target: Target) -> str:
    """Make the repository where there is none, upload all files; the line to print.

    Raises:
        PushError: names what failed.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    what = f"{len(files)} files, {size / 1e6:,.1f} MB"
    if target.dry:
        lines = [f"  {path.relative_to(folder)}  {path.stat().st_size:,} bytes" for path in files]
        kind = "public" if target.public else "private"
        return "\n".join([f"dry run: {what} would go to {target.name} ({kind} where it is new)", *lines])
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi()
    try:
        api.create_repo(target.name, private=not target.public, exist_ok=True)
        found = api.upload_folder(repo_id=target.name, folder_path=folder, commit_message=f"Upload {folder.name}")
    except OfflineModeIsEnabled as error:
        raise PushError("HF_HUB_OFFLINE is set, so nothing can be uploaded; unset it") from error
    except (HfHubHTTPError, OSError) as error:  # HTTPError of the client is an OSError or HfHubHTTPError
        raise PushError(f"the upload failed: {error}. {folder} is complete; run the same command again") from error
    return f"{what} uploaded: {found.commit_url}"
