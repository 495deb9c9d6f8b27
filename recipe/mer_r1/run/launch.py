"""What every entry point does before it imports anything heavy: find verl's configuration, compose, complain clearly.

A wrong key, preset or experiment is answered in seconds, because neither torch nor verl is imported for it.
"""

from __future__ import annotations

import difflib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.mer_r1.files import exits
from recipe.mer_r1.run import hub, interrupt, trackers
from recipe.mer_r1.run import overrides as written
from recipe.mer_r1.run.preset_types import wrong_values

CONF = Path(__file__).parents[3] / "conf"

# Read by libraries at import; a value that the user has set wins.
CPU_ENVIRONMENT = {
    "VERL_PLATFORM": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # otherwise vLLM's CPU build takes mp for preset.rollout.executor=uni
    "OMP_NUM_THREADS": "1",
    "TQ_NUM_THREADS": "1",  # TransferQueue, which otherwise asks for eight and warns at every call
}
ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    # A library that vLLM's server imports sets Python's root logger to ERROR, and so hides every warning, ours too.
    "SAGEMAKER_CONTAINER_LOG_LEVEL": "WARNING",
    "HYDRA_FULL_ERROR": "1",
    # Every load of an Omni config would warn that the default talker's token ids exceed its own vocabulary.
    "TRANSFORMERS_VERBOSITY": "error",
}


ADD = "Only a key that verl reads and its configuration does not list is added, as +KEY=VALUE."


def run(config_name: str, main: Callable[[DictConfig], None]) -> None:
    """Compose ``conf/{config_name}.yaml`` with the command line and call ``main``; exit code 2 for bad overrides.

    The exit codes are those of :mod:`recipe.mer_r1.files.exits`.
    """
    _prepare_hydra()
    sys.argv[1:] = [written.expand_home(argument) for argument in sys.argv[1:]]
    _check_arguments(config_name)

    # Also where a parent shell ignores Ctrl-C for its background jobs; SLURM and docker stop with SIGTERM.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def resolved_main(config: DictConfig) -> None:
        _home_in_files(config)
        OmegaConf.resolve(config)  # workers do not know our resolvers
        with interrupt.ends_soon(config, f"main_{config_name}"):
            hub.bring(config, hub.keys_of(config_name, config))
            main(config)

    text = "interrupted; nothing was started."
    with exits.plain(f"main_{config_name}", text):
        hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(resolved_main)()


def _check_arguments(config_name: str) -> None:
    """As :func:`check_overrides` for the command line, also where it has options of Hydra, such as `--cfg job`."""
    given = get_args_parser().parse_args()
    if given.help or given.hydra_help:
        return
    if not given.multirun:
        check_overrides(config_name, given.overrides)


def _prepare_hydra() -> None:
    """What composing needs: where verl's tree is, and the resolvers that conf/ uses."""
    package = find_spec("verl")
    if package is None:
        raise SystemExit(
            "verl is not installed in this environment: run `make setup`, then `source .venv/bin/activate`."
        )
    os.environ.setdefault("VERL_CONFIG_DIR", str(Path(package.submodule_search_locations[0]) / "trainer" / "config"))
    OmegaConf.register_new_resolver("sum", lambda *terms: sum(terms), replace=True)
    OmegaConf.register_new_resolver("choose", lambda condition, yes, no: yes if condition else no, replace=True)
    OmegaConf.register_new_resolver("mul", _product, replace=True)
    OmegaConf.register_new_resolver("groups", _listed_groups, replace=True)


def _product(*factors: float | None) -> float | None:
    """Their product; None where one of them is."""
    return None if None in factors else math.prod(factors)


def groups(config_name: str) -> list[str]:
    """The groups of conf/ that an entry point takes: those of its defaults, and profiles for RL."""
    defaults = OmegaConf.load(CONF / f"{config_name}.yaml").defaults
    named = [key for entry in defaults if isinstance(entry, DictConfig) for key in entry]
    return [key for key in named if (CONF / key).is_dir()] + ["profile"] * (config_name == "ppo")


def _listed_groups(config_name: str) -> str:
    """For --help: a line for each group, with its choices."""
    choices = {group: sorted(file.stem for file in (CONF / group).glob("*.yaml")) for group in groups(config_name)}
    return "\n".join(f"{'+' * (name == 'profile')}{name}: {', '.join(found)}" for name, found in choices.items())


def compose(config_name: str, overrides: list[str], resolve: bool = True) -> DictConfig:
    """``conf/{config_name}.yaml`` with these overrides, as an entry point would have it; unresolved where asked for.

    Raises HydraException or OmegaConfBaseException for wrong overrides.
    """
    _prepare_hydra()
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(config_name, [written.expand_home(override) for override in overrides])
    _home_in_files(config)
    if resolve:
        OmegaConf.resolve(config)
    return config


def _home_in_files(config: DictConfig) -> None:
    """Paths of the preset and of this recipe that begin with `~/`, as a preset's file may have them."""
    for node in (
        config.get("preset"),
        OmegaConf.select(config, "preset.sft"),
        OmegaConf.select(config, "preset.media"),
    ):
        for key in ("model_path", "train_files", "val_files", "media_root", "cache_folder"):
            if node is not None and key in node and not OmegaConf.is_interpolation(node, key):
                value = node[key]
                if isinstance(value, str) and value.startswith("~"):
                    node[key] = os.path.expanduser(value)


def _refuse_grammar(config_name: str, overrides: list[str]) -> None:
    """End the program with exit code 2 where Hydra cannot read an override, and say how to write it."""
    if faults := list(written.faults(overrides)):
        print("\n".join(f"main_{config_name}: {fault}" for fault in faults), file=sys.stderr)
        raise SystemExit(exits.INPUT)


def _refuse_groups(config_name: str, overrides: list[str]) -> None:
    """End the program with exit code 2 where a group is another entry point's."""
    known = groups(config_name)
    names = [override.lstrip("+~").partition("=")[0] for override in overrides]
    if foreign := [name for name in names if (CONF / name).is_dir() and name not in known]:
        there = " and ".join(f"main_{other}" for other in ("ppo", "sft") if foreign[0] in groups(other))
        print(
            f"main_{config_name}: {foreign[0]}=… is a choice of {there}. main_{config_name} takes {', '.join(known)}.",
            file=sys.stderr,
        )
        raise SystemExit(exits.INPUT)


def check_overrides(config_name: str, overrides: list[str]) -> DictConfig:
    """As :func:`compose`; wrong overrides end the program with exit code 2 and suggest the right ones.

    Values of the preset must have the types of :data:`recipe.mer_r1.run.preset_types.TYPES`.
    """
    _refuse_grammar(config_name, overrides)
    _refuse_groups(config_name, overrides)
    try:
        config = compose(config_name, overrides)
        wrong = list(wrong_values(config.get("preset") or {}))
        if not isinstance(config.get("verbose"), bool):
            wrong.append(f"verbose={config.get('verbose')!r}: expected true or false")
        if wrong:
            print("\n".join(f"main_{config_name}: {text}" for text in wrong), file=sys.stderr)
            raise SystemExit(exits.INPUT)
        return config
    except (HydraException, OmegaConfBaseException) as error:
        unknown = list(_unknown_keys(config_name, overrides))
        # Hydra would have an unknown key added with a plus sign, where it is most often one that was mistyped.
        lines = [*unknown, ADD] if unknown else [str(error)]
        print("\n".join(f"main_{config_name}: {line}" for line in lines), file=sys.stderr)
        raise SystemExit(exits.INPUT) from None


def _unknown_keys(config_name: str, overrides: list[str]) -> Iterator[str]:
    """A line for each override of a key that is not there, with the keys that were perhaps meant."""
    known = keys(compose(config_name, []))
    for key in (override.split("=")[0] for override in overrides):
        if not key.startswith(("+", "~")) and key not in known and not (CONF / key).is_dir():
            near = difflib.get_close_matches(key, known, n=3)
            near += [name for name in known if name.endswith("." + key.split(".")[-1])][:3]
            hint = f"did you mean {', '.join(dict.fromkeys(near))}?" if near else "run with --cfg job to see all keys"
            yield f"unknown key {key}: {hint}"


def keys(config: DictConfig, prefix: str = "") -> list[str]:
    names = []
    for key, value in config.items_ex(resolve=False):
        names.append(f"{prefix}{key}")
        if isinstance(value, DictConfig):
            names += keys(value, f"{prefix}{key}.")
    return names


def forwarded_environment() -> dict[str, str]:
    """The variables set here, for Ray's workers."""
    names = [*ENVIRONMENT, *CPU_ENVIRONMENT, "HF_HUB_OFFLINE", "VERL_FILE_LOGGER_PATH", *trackers.NAMES]
    return {name: os.environ[name] for name in names if name in os.environ}


def prepare_environment(device: str, model_path: str) -> None:
    """Set the variables that verl, vLLM and Ray read at import, before they are imported."""
    settings = ENVIRONMENT | (CPU_ENVIRONMENT if device == "cpu" else {})
    if Path(model_path).is_dir():
        settings["HF_HUB_OFFLINE"] = "1"
    for name, value in settings.items():
        os.environ.setdefault(name, value)
