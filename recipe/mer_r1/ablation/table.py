"""The table of the ablation, conf/ablation.yaml, read and checked: rows, controls, starts, seeds, evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from yaml import YAMLError

from recipe.mer_r1.files.errors import InputError, first_fault
from recipe.mer_r1.method.experiments import names as experiment_names
from recipe.mer_r1.run.launch import CONF

DEFAULT_TABLE = CONF / "ablation.yaml"
_SFT_KEYS = ("preset", "run_dir", "stage", "preset.seed", "preset.sft.model_path", "preset.sft.train_files")
_RL_KEYS = ("experiment", "preset", "run_dir", "preset.seed", "preset.model_path", "preset.train_files")
_RL_KEYS += ("preset.val_files", "preset.validate_every", "trainer.val_before_train")
"""What the ablation sets itself."""
SFT = "sft"
"""Row of the records of a start; those of another start than "default" are called sft_START."""
Mode = Literal["slow", "fast", "slow_sampled", "fast_sampled"]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]+$")]
Override = Annotated[str, StringConstraints(pattern=r"^[+~]{0,2}[\w./@]+(=.*)?$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Corpus(_Part):
    """Options of `python -m data_prep micro`; None leaves an option out."""

    generator: int | None = None
    reasons: str | None = None
    size: str | None = None
    clips: int | None = None
    test_clips: int | None = None
    base_clips: int | None = None
    sft: int | None = None
    seed: int | None = None
    voice: str | None = None


class Base(_Part):
    """A model before SFT. `stage` is null where the untrained model is taken as it is."""

    corpus: Name
    stage: Literal["base"] | None = "base"
    overrides: list[Override] = []


class Start(_Part):
    """An SFT model, and the corpus of its SFT, of RL and of the test clips."""

    base: Name = "default"
    corpus: Name = "default"
    overrides: list[Override] = []


class Row(_Part):
    """What is run: an experiment with overrides, from a start, on some seeds (None: all of the table)."""

    experiment: str
    start: Name = "default"
    overrides: list[Override] = []
    seeds: list[int] | None = None


class Common(_Part):
    """Overrides for the stages of every row."""

    base: list[Override] = []
    sft: list[Override] = []
    rl: list[Override] = []


class Evaluation(_Part):
    """How the test clips are answered; `samples` for each clip in the sampled modes."""

    modes: list[Mode] = Field(min_length=1)
    samples: int = Field(ge=1)

    @property
    def answers(self) -> int:
        """For each clip, of all modes together."""
        return sum(self.samples if mode.endswith("_sampled") else 1 for mode in self.modes)


class Table(_Part):
    """The complete table.

    Attributes:
        seeds: of the rows that name none.
        looks: how many times the results are read in all: each time before rows get more seeds, and the last time.
    """

    preset: str
    seeds: list[int] = Field(min_length=1)
    looks: int = Field(1, ge=1)
    corpora: dict[Name, Corpus]
    bases: dict[Name, Base]
    starts: dict[Name, Start]
    common: Common = Common()
    rows: dict[Name, Row]
    controls: dict[Name, Row] = {}
    evaluation: Evaluation

    @property
    def everything(self) -> dict[str, Row]:
        """Rows, then controls, by name."""
        return {**self.rows, **self.controls}

    def level(self, seeds: Iterable[int]) -> float:
        """Of an interval over these seeds: 0.95; where some were added, higher, by Bonferroni for the looks."""
        return 0.95 if set(seeds) <= set(self.seeds) else 1 - 0.05 / self.looks

    def seeds_of(self, name: str) -> list[int]:
        """Seeds that a row is run on."""
        chosen = self.everything[name].seeds
        return self.seeds if chosen is None else chosen

    def runs(self, only: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[tuple[str, int]]:
        """Row and seed of every run, in the order that answers the main questions first.

        Rows with several seeds come first, seed by seed; then the rows with one, then the controls.

        Args:
            only: names of rows; none means all.
            seeds: none means all of the table's.
        """
        order = list(self.everything)

        def rank(run: tuple[str, int]) -> tuple[int, int, int]:
            name, seed = run
            group = 2 if name in self.controls else int(len(self.seeds_of(name)) == 1 < len(self.seeds))
            place = self.seeds.index(seed) if seed in self.seeds else len(self.seeds) + abs(seed)
            return group, place, order.index(name)

        found = [(name, seed) for name in order for seed in self.seeds_of(name)]
        kept = [run for run in found if (not only or run[0] in only) and (not seeds or run[1] in seeds)]
        return sorted(kept, key=rank)


def load_table(path: Path = DEFAULT_TABLE, changes: Sequence[str] = ()) -> Table:
    """The table of a file with changes such as `evaluation.samples=1` put in.

    Raises:
        InputError: names the file, the key and what is wrong with it.
    """
    try:
        content = OmegaConf.load(path)
    except (OSError, YAMLError, OmegaConfBaseException) as error:
        raise InputError(f"{path}: cannot be read as YAML ({error})") from error
    for change in changes:
        try:
            content = OmegaConf.merge(content, OmegaConf.from_dotlist([change]))
        except (OmegaConfBaseException, YAMLError, ValueError) as error:
            raise InputError(f"--set {change}: {str(error).splitlines()[0]}; write KEY=VALUE") from error
    try:
        table = Table.model_validate(OmegaConf.to_container(content, resolve=True))
    except ValidationError as error:
        raise InputError(f"{path}: {first_fault(error)}") from error
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from error
    for fault in _faults(table):
        raise InputError(f"{path}: {fault}")
    return table


def _faults(table: Table) -> Iterator[str]:
    """What names something that is not there."""
    presets = sorted(file.stem for file in (CONF / "preset").glob("*.yaml"))
    if table.preset not in presets:
        yield f"preset: there is no preset {table.preset!r}; use one of {', '.join(presets)}"
    for name, base in table.bases.items():
        yield from _missing(f"bases.{name}.corpus", base.corpus, table.corpora, "corpora")
    for name, start in table.starts.items():
        yield from _missing(f"starts.{name}.base", start.base, table.bases, "bases")
        yield from _missing(f"starts.{name}.corpus", start.corpus, table.corpora, "corpora")
    for both in table.rows.keys() & table.controls.keys():
        yield f"controls.{both}: a row has this name"
    for name, row in table.everything.items():
        where = f"{'controls' if name in table.controls else 'rows'}.{name}"
        if name == SFT or name.startswith(f"{SFT}_"):
            yield f"{where}: names that begin with {SFT} are those of the starts"
        yield from _missing(f"{where}.experiment", row.experiment, experiment_names(), "conf/experiment")
        yield from _missing(f"{where}.start", row.start, table.starts, "starts")
        seeds = table.seeds_of(name)
        if not seeds or len(set(seeds)) < len(seeds):
            yield f"{where}.seeds: {seeds} must be different numbers, at least one"
        yield from _reserved(f"{where}.overrides", row.overrides, _RL_KEYS)
    yield from _reserved("common.rl", table.common.rl, _RL_KEYS)
    for where, overrides in _supervised(table):
        yield from _reserved(where, overrides, _SFT_KEYS)


def _supervised(table: Table) -> Iterator[tuple[str, list[str]]]:
    """The overrides of `main_sft`, with the key that has them."""
    yield from (("common.base", table.common.base), ("common.sft", table.common.sft))
    for part, models in (("bases", table.bases), ("starts", table.starts)):
        yield from ((f"{part}.{name}.overrides", model.overrides) for name, model in models.items())


def _reserved(where: str, overrides: Sequence[str], keys: Sequence[str]) -> Iterator[str]:
    """Overrides of what the ablation sets itself. Another seed or model would break the pairs without a trace."""
    for override in overrides:
        if override.lstrip("+~").partition("=")[0] in keys:
            yield f"{where}: {override} is set by the ablation"


def _missing(where: str, name: str, known: Sequence[str] | Mapping[str, object], place: str) -> Iterator[str]:
    if name not in known:
        yield f"{where}: there is no {name!r} in {place}; use one of {', '.join(known)}"
