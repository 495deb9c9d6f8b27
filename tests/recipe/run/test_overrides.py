"""Overrides that Hydra cannot read are answered with the quotes that they need; `~`; the types of a preset's keys."""

import shlex

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from recipe.mer_r1.eval.generate import load_preset
from recipe.mer_r1.files.home import expand_home
from recipe.mer_r1.run import launch, overrides
from recipe.mer_r1.run.preset_types import TYPES, wrong_values

PRESETS = sorted((launch.CONF / "preset").glob("*.yaml"))


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("preset.train_files=a=b.parquet", "a=b.parquet"),
        ("preset.train_files=数据/rl.parquet", "数据/rl.parquet"),
        ("run_dir=out/x#1", "out/x#1"),
        ("run_dir=out/(1)", "out/(1)"),
        ("run_dir=out/{a", "out/{a"),
        ("run_dir=it's", "it's"),
        ('run_dir=a"b(', 'a"b('),
        ("run_dir=a;b", "a;b"),
        ("data.train_files=[a=b.parquet,c.parquet,数.parquet]", ["a=b.parquet", "c.parquet", "数.parquet"]),
    ],
)
def test_the_message_shows_how_to_quote_and_the_quoted_override_is_read(override, value):
    (message,) = overrides.faults([override])
    assert repr(override) in message
    (quoted,) = shlex.split(message.rsplit("shell: ", 1)[1])
    assert OverridesParser.create().parse_override(quoted).value() == value


def test_the_words_of_the_hint():
    (message,) = overrides.faults(["key=a=b.parquet"])
    assert message.endswith("""'key="a=b.parquet"'""")
    (message,) = overrides.faults(["preset"])
    assert "missing EQUAL" in message
    assert "write KEY=VALUE" in message
    (message,) = overrides.faults(["data.train_files=a.parquet,b.parquet"])
    assert "'data.train_files=[a.parquet,b.parquet]' is a list" in message
    assert list(overrides.faults(["preset.lr=1e-4", "~preset.x", "data.train_files=[a,b]", 'a="x,y"'])) == []


@pytest.mark.parametrize("entry", ["ppo", "sft"])
def test_an_entry_point_says_how_to_quote_and_which_type_it_expects(entry, capsys):
    for override, message in (
        ("run_dir=out/(1)", """'run_dir="out/(1)"'"""),
        ("preset.seed=007", "preset.seed='007': expected a whole number, but got text; write 7"),
        ("preset.media.use_audio_in_video=yes", "but got text; write true"),
        ("preset.sft.lr=fast", "preset.sft.lr='fast': expected a number, but got text"),
    ):
        with pytest.raises(SystemExit) as caught:
            launch.check_overrides(entry, [override])
        assert caught.value.code == 2
        assert message in capsys.readouterr().err


def test_home_is_expanded_in_paths_alone(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    for given, expected in (
        ("preset.model_path=~/m", "preset.model_path=/home/me/m"),
        ("--root=~/x", "--root=/home/me/x"),
        ("~", "/home/me"),
        ("data.train_files=[~/a,~/b]", "data.train_files=[/home/me/a,/home/me/b]"),
        ('run_dir="~/a b"', 'run_dir="/home/me/a b"'),
        ("~preset.x", "~preset.x"),
        ("run_dir=a~/b", "run_dir=a~/b"),
        ("run_dir=a~b", "run_dir=a~b"),
    ):
        assert expand_home(given) == expected
        assert OverridesParser.create().parse_override(overrides.expand_home("x=~/m")).value() == "/home/me/m"
    config = launch.compose("ppo", ["preset.model_path=~/m", "run_dir=~/out"])
    assert config.actor_rollout_ref.model.path == "/home/me/m"
    assert config.run_dir == "/home/me/out"
    monkeypatch.setenv("HOME", "/home/é (1)")
    assert launch.compose("sft", ["preset.sft.model_path=~/m"]).model.path == "/home/é (1)/m"
    assert launch.compose("sft", ['preset.sft.model_path="~/m"']).model.path == "/home/é (1)/m"


# -- types -------------------------------------------------------------------------------------------------------------


def leaves(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_key_of_every_preset_has_a_type(path):
    keys = set(leaves(yaml.safe_load(path.read_text(encoding="utf-8"))))
    assert keys - set(TYPES) == set()
    assert set(TYPES) - keys <= {"ray.num_gpus", "frozen_towers"}
    assert list(wrong_values(load_preset(path.stem, []))) == []


@pytest.mark.parametrize("cluster", sorted(path.stem for path in (launch.CONF / "cluster").glob("*.yaml")))
def test_clusters_and_stages_have_the_types_too(cluster):
    for entry, more in (("ppo", []), ("sft", []), ("sft", ["stage=base"])):
        config = launch.compose(entry, [f"cluster={cluster}", "preset=omni7b", *more])
        assert list(wrong_values(config.preset)) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", "007", "preset.seed='007': expected a whole number, but got text; write 7"),
        ("seed", True, "preset.seed=True: expected a whole number, but got true or false"),
        ("seed", None, "expected a whole number, but got null"),
        ("steps", 8.0, "expected a whole number from 1, or null, but got a number; write 8"),
        ("steps", 0, "preset.steps=0: expected a whole number from 1, or null, but got 0"),
        ("responses_per_prompt", -1, "preset.responses_per_prompt=-1: expected a whole number from 1, but got -1"),
        ("steps", "null", "but got text; write null"),
        ("lr", "1e-4x", "preset.lr='1e-4x': expected a number, but got text"),
        ("lr", float("nan"), "expected a number"),
        ("lr", "1e-4", "write 0.0001"),
        ("media.use_audio_in_video", 1, "expected true or false, but got a whole number; write true"),
        ("rollout.eager", "no", "expected true or false, but got text; write false"),
        ("device", "gpu", "expected one of cpu, cuda, but got text"),
        ("frozen_towers", "vision", "expected a list of words, e.g. [vision], but got text; write [vision]"),
        ("train_files", ["a", "b"], "but got a list; for several files, set data.train_files=[A,B]"),
        ("model_path", 7, "expected one path as text, but got a whole number"),
        ("offload", True, "preset.offload=True: expected keys below it, e.g. preset.offload.optimizer=…"),
        ("media", "fast", "preset.media='fast': expected keys below it"),
    ],
)
def test_a_wrong_type_names_key_value_and_type(key, value, message):
    preset = OmegaConf.to_container(load_preset("tiny", []), resolve=False)
    node = preset
    *parents, last = key.split(".")
    for parent in parents:
        node = node[parent]
    node[last] = value
    (found,) = wrong_values(preset)
    assert message in found


def test_a_preset_is_read_where_hydras_resolvers_are_not_there():
    OmegaConf.clear_resolver("sum")
    assert load_preset("tiny", []).name == "tiny"
    launch.compose("ppo", [])  # registers it again


def test_set_of_the_evaluation_has_the_same_types():
    assert load_preset("tiny", ["seed=7"]).seed == 7
    for change, message in (
        ("seed=007", "write seed=7"),
        ("seed=010", "write seed=10"),
        ("media.fps=fast", "preset.media.fps='fast': expected a number"),
    ):
        with pytest.raises(ValueError, match=message):
            load_preset("tiny", [change])
