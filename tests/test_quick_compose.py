"""What tests compose quickly is what Hydra composes."""

import hydra
import omegaconf.base
import pytest
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from recipe.mer_r1.run import launch

pytestmark = pytest.mark.slow

PLACES = ((hydra, "compose"), (FileConfigSource, "load_config"), (omegaconf.base, "parse"))
REAL = [getattr(*place) for place in PLACES]  # at import, before the session's fixture


def without_memory(monkeypatch):
    for place, real in zip(PLACES, REAL, strict=True):
        assert getattr(*place) is not real
        monkeypatch.setattr(*place, real)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("ppo", ["preset=tiny", "experiment=b1", "preset.steps=3", "+trainer.more=1", "run_dir=/a b"]),
        ("ppo", ["preset.steps=3", "preset=omni7b", "mode=separate_async", "cluster=h100_2x8", "~trainer.logger"]),
        ("sft", ["stage=base", "preset.sft.lr=1e-3", "data.train_files=[a,b]"]),
    ],
)
def test_it_is_what_hydra_composes(name, overrides, monkeypatch):
    quick = [launch.compose(name, overrides, resolve) for resolve in (True, False)]
    again = launch.compose(name, overrides)
    without_memory(monkeypatch)
    assert quick == [launch.compose(name, overrides, resolve) for resolve in (True, False)]
    assert again == quick[0]


@pytest.mark.parametrize("overrides", [["preset.stpes=3"], ["preset=none"], ["preset.steps=[1"], ["preset.steps=1,2"]])
def test_its_errors_are_hydras(overrides, monkeypatch):
    with pytest.raises((HydraException, OmegaConfBaseException)) as quick:
        launch.compose("ppo", overrides)
    without_memory(monkeypatch)
    with pytest.raises(type(quick.value)) as real:
        launch.compose("ppo", overrides)
    assert str(quick.value) == str(real.value)
