"""Bad input is named before any worker starts: file, row or key, and the way out."""

import copy
import os
import re
import shutil
import socket
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from recipe.mer_r1.run import launch, preflight
from recipe.mer_r1.run.form import check_model_form
from verl_ext.data.dataset import load_shard


@pytest.fixture(scope="module")
def composed(micro_corpus, tiny_model, tmp_path_factory):
    """A run on the made corpus, composed as the entry point does."""
    overrides = [
        f"run_dir={tmp_path_factory.mktemp('run')}",
        f"preset.model_path={tiny_model}",
        f"preset.train_files={micro_corpus}/shards/rl.parquet",
        f"preset.val_files={micro_corpus}/shards/test.parquet",
    ]
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["main_ppo", *overrides])
        launch.run("ppo", found.append)
    return found[0]


@pytest.fixture
def config(composed):
    """A function that gives the run with some keys changed."""

    def change(**values):
        changed = copy.deepcopy(composed)
        for key, value in values.items():
            OmegaConf.update(changed, key.replace("__", "."), value)
        return changed

    return change


@pytest.fixture
def shard(micro_corpus, tmp_path):
    """A function that writes the training rows, changed; returns the file."""

    def write(change):
        rows = load_shard(micro_corpus / "shards" / "rl.parquet").to_list()
        for index, row in enumerate(rows):
            change(index, row)
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "shard.parquet")
        return tmp_path / "shard.parquet"

    return write


def complaint(config):
    """The message with which a run stops."""
    with pytest.raises(preflight.PreflightError) as caught:
        preflight.check_ppo(config)
    assert isinstance(caught.value, SystemExit)
    return str(caught.value)


def test_a_good_run_passes(config):
    preflight.check_ppo(config())


def test_a_corpus_that_moved_is_found_by_media_root(config, micro_corpus, tmp_path):
    table = pq.read_table(micro_corpus / "shards" / "rl.parquet")
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "moved.parquet")
    message = complaint(config(data__train_files=[f"{tmp_path}/moved.parquet"]))
    assert "row 0: `videos` is the relative path" in message
    assert "preset.media_root" in message
    preflight.check_ppo(config(data__train_files=[f"{tmp_path}/moved.parquet"], data__media_root=str(micro_corpus)))


def test_a_missing_shard(config, tmp_path):
    message = complaint(config(data__train_files=[f"{tmp_path}/nowhere.parquet"]))
    assert f"{tmp_path}/nowhere.parquet" in message
    assert "data.train_files" in message
    assert "python -m data_prep" in message


def test_a_missing_validation_shard(config, tmp_path):
    message = complaint(config(data__val_files=[f"{tmp_path}/nowhere.parquet"]))
    assert message.startswith("data.val_files")
    assert "python -m data_prep" in message


def test_missing_media(config, shard):
    path = shard(lambda index, row: row.update(videos=["/nowhere/clip.mp4"]) if index == 7 else None)
    message = complaint(config(data__train_files=[str(path)]))
    assert str(path) in message
    assert "row 7" in message
    assert "`videos`" in message
    assert "/nowhere/clip.mp4" in message


def test_a_wrong_column(config, shard):
    path = shard(lambda index, row: row.update(video=row.pop("videos")))
    message = complaint(config(data__train_files=[str(path)]))
    assert str(path) in message
    assert "['videos']" in message
    assert "docs/data.md" in message


@pytest.mark.parametrize(("column", "name"), [("videos", "broken.mp4"), ("audios", "broken.wav")])
def test_a_clip_that_cannot_be_decoded(column, name, config, shard, tmp_path):
    (tmp_path / name).write_bytes(b"\x00" * 5000)
    path = shard(lambda index, row: row.update({column: [str(tmp_path / name)]}) if index == 0 else None)
    message = complaint(config(data__train_files=[str(path)]))
    assert str(tmp_path / name) in message
    assert "Re-encode" in message


def test_a_clip_that_is_too_long(config):
    message = complaint(config(data__media__max_seconds=1.0))
    assert ".wav" in message
    assert "data.media.max_seconds" in message


def test_too_long_a_prompt(config):
    message = complaint(config(data__max_prompt_length=100))
    assert "row 0" in message
    assert "data.max_prompt_length=100" in message
    assert "preset.max_prompt_length" in message


def test_the_longest_form_counts(config, tiny_model):
    """What the reply is made to begin with belongs to the prompt."""
    from transformers import AutoTokenizer

    def tokens(**changes):
        message = complaint(config(data__max_prompt_length=1, **changes))
        return int(re.search(r"the prompt has (\d+) tokens", message)[1])

    fast = "<think></think><answer>"
    more = tokens(data__response_prefixes__val__fast=fast * 2) - tokens()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert more == len(tokenizer.encode(fast * 2)) - len(tokenizer.encode(fast)) > 0


def test_a_missing_model_folder(config):
    message = complaint(config(preset__model_path="outputs/nowhere"))
    assert "preset.model_path=outputs/nowhere" in message
    assert "main_sft" in message


@pytest.mark.parametrize(
    ("gone", "named"),
    [
        (("processor_config.json", "preprocessor_config.json"), "processor"),
        (("model.safetensors",), "weights"),
        (("config.json",), "config.json"),
        (("tokenizer.json", "tokenizer_config.json"), "tokenizer"),
    ],
)
def test_a_model_folder_that_lacks_something(gone, named, config, tiny_model, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny_model.iterdir():
        if file.name not in gone:
            (folder / file.name).symlink_to(file)
    message = complaint(config(preset__model_path=str(folder)))
    assert f"preset.model_path={folder}" in message
    assert f"has no {named}" in message
    assert "verl_ext.models.export" in message


@pytest.fixture
def of_form(tiny_model, tmp_path):
    """The tiny model as a run that was trained on a form wrote it."""

    def make(form):
        run_dir = tmp_path / form
        (run_dir / "model").mkdir(parents=True)
        for file in tiny_model.iterdir():
            (run_dir / "model" / file.name).symlink_to(file)
        (run_dir / "config.yaml").write_text(f"data: {{form: {form}}}\n")
        return run_dir / "model"

    return make


def test_a_model_of_another_form_than_the_experiments(config, of_form):
    model = of_form("answer_think_answer")
    message = complaint(config(preset__model_path=str(model)))
    assert "experiment.form=think_answer (experiment=baseline)" in message
    assert f"{model} was trained with the form answer_think_answer ({model.parent / 'config.yaml'})" in message
    assert "main_sft data.form=think_answer" in message
    assert "an experiment of the model's form (videoauto_r1)" in message
    assert "mer_r1.check_form=false" in message
    check_model_form(config(preset__model_path=str(model), data__form="answer_think_answer"))
    check_model_form(config(preset__model_path=str(model), mer_r1__check_form=False))
    check_model_form(config(data__form="answer_think_answer"))  # a model of unknown lineage


def test_too_little_shared_memory(config, monkeypatch):
    if not os.path.isdir("/dev/shm"):
        pytest.skip("no /dev/shm on this system")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 << 20))
    message = complaint(config())
    assert "/dev/shm has 64 MiB free" in message
    assert "--shm-size" in message
    assert "preset.rollout.weight_bucket_mb" in message


def test_no_port_to_listen_on(config, monkeypatch):
    def refuse(self, address):
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    message = complaint(config())
    assert "TCP port on 127.0.0.1" in message


def test_validation_on_the_training_clips_is_refused(config, micro_corpus):
    message = complaint(config(data__val_files=[f"{micro_corpus}/shards/rl.parquet"]))
    assert "data.val_files and data.train_files are the same" in message


def test_a_form_that_does_not_exist_and_one_that_the_prompts_cannot_ask_for_are_named(config, shard):
    with pytest.raises(preflight.PreflightError, match=r"experiment.form=twice: unknown response form"):
        preflight.check_form("twice", "experiment.form")
    file = shard(lambda index, row: row["prompt"][-1].update(content="<video><audio>Well?"))
    changed = config(data__train_files=[str(file)], data__form="answer_think_answer")
    with pytest.raises(preflight.PreflightError, match=r"shard.parquet row 0: .* cannot be used"):
        preflight.check_shards(changed)


def test_a_plugin_that_cannot_be_imported_is_named(config):
    with pytest.raises(preflight.PreflightError, match=r"mer_r1.plugins: there is no module 'my_trainer'"):
        preflight.check_ppo(config(mer_r1__plugins=["my_trainer"]))


def test_confidence_of_replies_that_were_begun_for_the_model_is_refused(config):
    begun = config(data__response_prefixes__train__slow="<think></think><answer>")
    preflight.check_terms(begun)  # the baseline has no calibration
    begun.mer_r1.confidence.always = True
    with pytest.raises(preflight.PreflightError, match=r"response_prefixes.train has .*slow"):
        preflight.check_terms(begun)


@pytest.mark.parametrize("tokens", [0, -1, 8.5, True, "many"])
def test_a_number_of_tokens_that_is_none_is_refused(tokens, config):
    assert f"preset.micro_batch_tokens={tokens}: give a whole number from 1, or null" in complaint(
        config(preset__micro_batch_tokens=tokens)
    )


def test_micro_batches_of_responses_divide_a_ranks_share_and_those_of_tokens_need_not(config):
    """24 prompts with 4 responses."""
    of_responses = config(preset__micro_batch_tokens=None, preset__micro_batch_size=5)
    assert "micro_batch_size=5 does not divide the 96 responses per rank" in complaint(of_responses)
    preflight.check_micro_batches(config(preset__micro_batch_tokens=1, preset__micro_batch_size=5))
    preflight.check_micro_batches(config(preset__micro_batch_tokens=None, preset__micro_batch_size=32))
    ranks = config(trainer__nnodes=5)
    assert "96 responses (preset.prompts_per_step × responses_per_prompt) do not divide among 5" in complaint(ranks)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mer_r1__confidence__shuffle": "yes please"}, "shuffle=yes please: choose true or false"),
        ({"mer_r1__confidence__shared_tokens": "mix"}, "shared_tokens=mix: choose one of split, drop, keep"),
        ({"mer_r1__confidence__floor": 0}, "floor=0: give a negative number"),
        ({"mer_r1__confidence__floor": "low"}, "floor=low: give a negative number"),
        ({"mer_r1__min_thought_tokens": -1}, "min_thought_tokens=-1: give a whole number"),
        ({"actor_rollout_ref__model__use_fused_kernels": True}, "use_fused_kernels=True: verl's fused kernels"),
        ({"mer_r1__shared_prompt_attention": "flex"}, "FlexAttention has no backward pass on a CPU"),
        ({"mer_r1__min_thought_tokens": True}, "min_thought_tokens=True: give a whole number"),
        ({"mer_r1__kept_features_mib": -1}, "kept_features_mib=-1: give a whole number of MiB, 0 or more"),
    ],
)
def test_a_setting_that_no_library_checks_is_checked_here(changed, message, config):
    assert message in complaint(config(**changed))
