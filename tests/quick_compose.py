"""Hydra's composing for tests: a choice of files (preset, experiment, …) is read once, values are set on a copy of it.

Reading verl's and this project's YAML takes most of the half second of a composition, and hundreds of tests compose the
same files with other values. Hydra itself sets the values; what is not plain goes through Hydra as a whole.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import hydra
import omegaconf.base
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from recipe.mer_r1.run import launch

Compose = Callable[[str, Sequence[str]], DictConfig]
Load = Callable[[FileConfigSource, str], ConfigResult]


def remembering(compose: Compose) -> Compose:
    """``hydra.compose``, which composes the files of each choice once."""
    composed = functools.cache(lambda name, choices: compose(name, [*choices]))

    @functools.wraps(compose)
    def quick(name: str, overrides: Sequence[str] = ()) -> DictConfig:
        choices = [override for override in overrides if _may_choose_files(override)]
        try:
            values = OverridesParser.create().parse_overrides([one for one in overrides if one not in choices])
            if any(value.is_sweep_override() for value in values):
                return compose(name, [*overrides])
            config = copy.deepcopy(composed(name, tuple(choices)))
            ConfigLoaderImpl._apply_overrides_to_config(values, config)
        except Exception:  # Hydra's own error for all of them
            return compose(name, [*overrides])
        return config

    return quick


def _may_choose_files(override: str) -> bool:
    """Whether it is more than one value of the configuration: a choice of a file, something of Hydra's own."""
    key = override.partition("=")[0].lstrip("+~")
    return key.startswith("hydra") or any(sign in key for sign in "/@:") or key in _groups()


@functools.cache
def _groups() -> frozenset[str]:
    roots = (launch.CONF, Path(os.environ["VERL_CONFIG_DIR"]))
    return frozenset(path.name for root in roots for path in root.iterdir() if path.is_dir())


def _remembering_files(load: Load) -> Load:
    """``FileConfigSource.load_config``, which reads each file once."""
    read = functools.cache(lambda root, path: load(FileConfigSource("", root), path))

    def quick(source: FileConfigSource, config_path: str) -> ConfigResult:
        return replace(copy.deepcopy(read(source.path, config_path)), provider=source.provider)

    return quick


@contextmanager
def quick_compose() -> Iterator[None]:
    """While inside, Hydra remembers files and what they compose, and OmegaConf the interpolations it has parsed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hydra, "compose", remembering(hydra.compose))
        patch.setattr(FileConfigSource, "load_config", _remembering_files(FileConfigSource.load_config))
        patch.setattr(omegaconf.base, "parse", functools.lru_cache(maxsize=4096)(omegaconf.base.parse))
        yield
