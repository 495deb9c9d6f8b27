"""Where a corpus keeps its files, and that none of them lies elsewhere."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from data_prep.clip import CorpusError

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar", ".gz")


@dataclass(frozen=True)
class Root:
    """The folder that a download left, and the folders that links in it may lead to."""

    folder: Path
    links_to: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            if self.folder.name.lower().endswith(ARCHIVES):
                raise CorpusError(f"{self.folder}: is an archive; unpack it and set --root to the unpacked folder")
            raise CorpusError(f"{self.folder}: no such folder; set --root to the folder of the downloaded corpus")

    @cached_property
    def _allowed(self) -> tuple[Path, ...]:
        return tuple(folder.resolve() for folder in (self.folder, *self.links_to))

    def place(self, relative: str) -> Path:
        """`relative` inside the root; its first folder is left out where the root has none and is that folder itself.

        Raises CorpusError where the path is absolute or leaves the root, by `..` or by a link.
        """
        pure = PurePosixPath(relative)
        if pure.is_absolute() or ".." in pure.parts or "\\" in relative or "\0" in relative:
            raise CorpusError(
                f"{relative!r}: points outside {self.folder}; paths in a corpus must be relative to its folder"
            )
        path = self.folder / pure
        if len(pure.parts) > 1 and not (self.folder / pure.parts[0]).exists():
            shorter = self.folder.joinpath(*pure.parts[1:])
            if shorter.exists() or self.folder.absolute().name == pure.parts[0]:
                path = shorter
        if path.exists() and not self.holds(path):
            raise CorpusError(
                f"{path}: is a link to {path.resolve()}, outside {self.folder}; allow it with --links-to FOLDER, "
                "or copy the files"
            )
        return path

    def holds(self, path: Path) -> bool:
        """Whether the file that `path` leads to lies in the root or in a folder of `links_to`."""
        real = path.resolve()
        return any(real.is_relative_to(folder) for folder in self._allowed)


@dataclass(frozen=True)
class MediaFolder:
    """A folder with a file a clip, `NAME.suffix`; the first suffix that exists counts."""

    folder: str
    suffixes: Sequence[str]

    def at(self, root: Root) -> MediaPlace:
        """The folder inside `root`. Raises CorpusError where it is missing or an archive lies in its place."""
        path = root.place(self.folder)
        if not path.is_dir():
            packed = [path.with_name(path.name + suffix) for suffix in ARCHIVES]
            found = [file for file in packed if file.exists()]
            way_out = f"unpack {found[0]} there (this program does not unpack archives)" if found else _elsewhere(root)
            raise CorpusError(f"{path}: no such folder; {way_out}")
        return MediaPlace(root, path, tuple(self.suffixes))


def _elsewhere(root: Root) -> str:
    folders = sorted(path.name for path in root.folder.iterdir() if path.is_dir())
    held = f"; {root.folder} has the folders {', '.join(folders[:5])}{', …' * (len(folders) > 5)}" if folders else ""
    return f"check --root and --corpus{held}"


@dataclass(frozen=True)
class MediaPlace:
    """A media folder that exists."""

    root: Root
    path: Path
    suffixes: tuple[str, ...]

    def find(self, name: str) -> Path | None:
        """The clip's file, or None. Raises CorpusError for a link that leaves the root."""
        for suffix in self.suffixes:
            path = self.path / f"{name}{suffix}"
            if path.is_file():
                # A name that is a path may pass a linked folder; else only the file itself can be a link.
                if ("/" in name or path.is_symlink()) and not self.root.holds(path):
                    raise CorpusError(
                        f"{path}: is a link to {path.resolve()}, outside {self.root.folder}; allow it with "
                        "--links-to FOLDER, or copy the file"
                    )
                return path
        return None

    def broken_link(self, name: str) -> str | None:
        """Where the clip's file is a link to nothing: the link and what it names, for a message."""
        for suffix in self.suffixes:
            path = self.path / f"{name}{suffix}"
            if path.is_symlink() and not path.exists():
                return f"{path} is a link to {path.readlink()}, which does not exist"
        return None

    def wanted(self, name: str) -> str:
        """What was looked for, for a message."""
        return " or ".join(str(self.path / f"{name}{suffix}") for suffix in self.suffixes)

    @cached_property
    def _loosely(self) -> dict[str, str]:
        # Built only when a file is missing: a folder's names cost memory.
        files = (path for path in sorted(self.path.iterdir()) if path.suffix.casefold() in self.suffixes)
        return {_loose(path.stem): path.name for path in files}

    def similar(self, name: str) -> str | None:
        """A file whose name differs from the clip's in case, blanks or Unicode form alone, or None."""
        return self._loosely.get(_loose(name))


def _loose(name: str) -> str:
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
