"""What `make test-gpu-pins` needs to know; the standard library alone.

python tests/gpu_pins.py requirements    the packages: those of requirements/gpu.txt, with vLLM's CPU build
python tests/gpu_pins.py unchanged       exit code 0 if nothing changed since the tests last passed
python tests/gpu_pins.py record          write that they have passed with these files
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
WATCHED = ("requirements", "verl_ext", "conf", "recipe/mer_r1/rehearse")
RECORD = Path("requirements") / "gpu_pins.passed"
# Which experiments to run on which seeds: no library reads it.
UNREAD = (RECORD, Path("conf") / "ablation.yaml")
# Not for a CPU: vLLM itself, and kernels as data alone (1.8 GB).
LEFT_OUT = ("vllm", "flashinfer-cubin")


def packages(root: Path = ROOT) -> list[str]:
    """Lines ``name==version``."""
    found = []
    for file in ("gpu.txt", "gpu_pins.txt"):
        lines = (root / "requirements" / file).read_text(encoding="utf-8").splitlines()
        found += [line for line in lines if line and not line.startswith("#")]
    return [line for line in found if line.split("==")[0] not in LEFT_OUT]


def watched_files(root: Path = ROOT) -> Iterator[Path]:
    """Every file that the tests stand for, in a fixed order; no byte code."""
    unread = [root / path for path in UNREAD]
    for folder in WATCHED:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path not in unread:
                yield path


def digest(root: Path = ROOT) -> str:
    """SHA-256 over the names and contents."""
    found = hashlib.sha256()
    for path in watched_files(root):
        content = path.read_bytes()
        found.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode())
        found.update(content)
    return found.hexdigest()


def passed(root: Path = ROOT) -> str | None:
    """The digest that was recorded; None without one."""
    record = root / RECORD
    return record.read_text(encoding="utf-8").strip() if record.is_file() else None


def main(arguments: list[str]) -> int:
    """The command line."""
    if arguments == ["requirements"]:
        print("\n".join(packages()))
        return 0
    if arguments == ["record"]:
        (ROOT / RECORD).write_text(f"{digest()}\n", encoding="utf-8")
        print(f"{RECORD}: passed with these {', '.join(WATCHED)}; commit the file")
        return 0
    if arguments == ["unchanged"]:
        same = passed() == digest()
        if same:
            print(f"make test-gpu-pins is skipped: {', '.join(WATCHED)} are as they were when it last passed")
        return 0 if same else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
