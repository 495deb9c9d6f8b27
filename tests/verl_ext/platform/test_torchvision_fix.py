"""The fix declares what a CUDA torchvision lacks beside a CPU torch, and is silent everywhere else."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from verl_ext.platform import torchvision_fix

FIX = Path(torchvision_fix.__file__)
FAKE_TORCH = """
DEFINED = []
class Library:
    def __init__(self, name, kind): assert (name, kind) == ("torchvision", "FRAGMENT")
    def define(self, schema): DEFINED.append(schema.split("(")[0])
class library:
    Library = Library
"""
BROKEN = """
from torchvision import part
import torch
if "nms" not in torch.DEFINED:
    raise RuntimeError("operator torchvision::nms does not exist")
part.loads.append("whole")
"""
PART = "loads = []"


def run(code, *paths):
    """Run code without any site-packages but those given; (stdout, last line of stderr)."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
    process = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    return process.stdout.strip(), (process.stderr.strip().splitlines() or [""])[-1]


@pytest.fixture
def packages(tmp_path):
    """A function that writes a fake torchvision; returns the folder that holds it, a fake torch and the fix."""

    def write(torchvision):
        for name, files in {"torch": {"__init__": FAKE_TORCH}, "torchvision": {"part": PART}}.items():
            (tmp_path / name).mkdir()
            for file, text in files.items():
                (tmp_path / name / f"{file}.py").write_text(text)
        (tmp_path / "torchvision" / "__init__.py").write_text(torchvision)
        (tmp_path / "fix.py").write_text(FIX.read_text())
        return tmp_path

    return write


def test_a_torchvision_without_its_operators_fails_unaided_and_imports_with_the_mend(packages):
    folder = packages(BROKEN)
    assert run("import torchvision", folder)[1] == "RuntimeError: operator torchvision::nms does not exist"
    code = "import fix, torchvision, torch; print(torch.DEFINED, torchvision.part.loads)"
    assert run(code, folder) == ("['nms', 'qnms'] ['whole']", "")


def test_a_whole_torchvision_is_left_alone(packages):
    folder = packages("from torchvision import part\npart.loads.append('whole')")
    code = "import fix, torchvision, sys; print('torch' in sys.modules, torchvision.part.loads)"
    assert run(code, folder) == ("False ['whole']", "")


@pytest.mark.parametrize("error", ["RuntimeError('operator aten::nms')", "ImportError('libcudart.so.13')"])
def test_another_error_passes_through(error, packages):
    folder = packages(f"raise {error}")
    assert run("import torchvision", folder) == run("import fix, torchvision", folder)


def test_without_torchvision_nothing_changes(tmp_path):
    (tmp_path / "fix.py").write_text(FIX.read_text())
    assert run("import fix, torchvision", tmp_path)[1] == "ModuleNotFoundError: No module named 'torchvision'"


def test_a_second_copy_adds_no_second_finder(tmp_path):
    for name in ("fix", "again"):
        (tmp_path / f"{name}.py").write_text(FIX.read_text())
    code = "import sys; n = len(sys.meta_path); import fix, again; fix.install(); print(len(sys.meta_path) - n)"
    assert run(code, tmp_path) == ("1", "")


def test_the_mend_imports_the_standard_library_alone(tmp_path):
    """It runs at the start of every interpreter of the environment."""
    (tmp_path / "fix.py").write_text(FIX.read_text())
    code = (
        "import sys; before = set(sys.modules); import fix\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}; print(new - sys.stdlib_module_names)"
    )
    assert run(code, tmp_path) == ("{'fix'}", "")


@pytest.mark.seam
def test_the_installed_torchvision_needs_the_mend_and_imports_with_it(tmp_path):
    site_packages = sysconfig.get_path("purelib")
    (tmp_path / "fix.py").write_text(FIX.read_text())
    use = "import torchvision; print(torchvision.__version__, torchvision.ops.boxes.__name__)"
    unaided, error = run(use, tmp_path, site_packages)
    aided, left = run(f"import fix; {use}", tmp_path, site_packages)
    assert aided.endswith("torchvision.ops.boxes"), left
    if unaided:
        assert unaided == aided
        pytest.skip("torchvision imports unaided here; the fix changed nothing")
    assert error == f"RuntimeError: {torchvision_fix._MISSING}"
