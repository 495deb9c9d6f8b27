import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipe.mer_r1.run import heading, launch
from recipe.mer_r1.run.preflight import PreflightError
from recipe.mer_r1.run.sft_preflight import check_cheap
from recipe.mer_r1.run.sft_scoring import check_scoring, scores_at

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "verl_ext"))


def command(*arguments):
    return [sys.executable, "-m", "recipe.mer_r1.main_sft", *arguments]


def run(*arguments, **options):
    return subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=300, **options)


def test_help_names_the_keys():
    done = run("--help")
    assert done.returncode == 0
    assert "preset.sft.train_files" in done.stdout
    assert "preset: omni3b, omni7b, smol, tiny" in done.stdout


def test_a_wrong_key_is_answered_with_its_neighbours():
    done = run("preset.sft.stpes=3")
    assert done.returncode == 2
    assert "did you mean preset.sft.steps" in done.stderr


@pytest.fixture
def folder(tmp_path):
    for name in ("config.json", "model.safetensors", "tokenizer.json", "processor_config.json"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["preset.sft.model_path=/nowhere/model"], "preset.sft.model_path=/nowhere/model: no such folder"),
        (["preset.sft.train_files=/nowhere.parquet"], "no such shard: /nowhere.parquet"),
        (
            ["preset.sft.micro_batch_size=3"],
            "batch_size=16 is not a multiple of 1 ranks × preset.sft.micro_batch_size=3",
        ),
        (["preset.sft.fast_fraction=1.5"], "fast_fraction=1.5 must be between 0 and 1"),
        (["preset.sft.steps=0"], "preset.sft.steps=0"),
        (["trainer.test_freq=5"], "trainer.test_freq=5 needs data.val_files=[SHARD.parquet]"),
        (
            ["preset.sft.score_every=5", "preset.val_files=/nowhere.parquet"],
            "score_every=5 scores the clips of preset.val_files, but there is no such shard: /nowhere.parquet",
        ),
        (
            ["preset.sft.score_every=5", "preset.val_files=${preset.sft.train_files}"],
            "sft.parquet (preset.val_files) is also in data.train_files",
        ),
        (
            ["preset.sft.score_every=5", "preset.val_files=pyproject.toml", "engine.strategy=fsdp"],
            "preset.sft.score_every needs engine.strategy=fsdp2, not fsdp",
        ),
        (
            ["preset.sft.score_every=5", "preset.val_files=pyproject.toml", "mer_r1.wheels.folder=/nowhere"],
            "mer_r1.wheels.folder: ",
        ),
    ],
)
def test_bad_input_is_named(folder, overrides, message):
    (folder / "sft.parquet").touch()
    given = [f"preset.sft.model_path={folder}", f"preset.sft.train_files={folder}/sft.parquet", *overrides]
    with pytest.raises(PreflightError, match=re.escape(message)):
        check_cheap(launch.compose("sft", given))


def test_a_shard_without_labels_cannot_be_scored(folder):
    import pyarrow as pa
    from pyarrow import parquet

    for name, labels in (("some", [[], ["sad"]]), ("none", [[], []])):
        rows = [{"reward_model": {"ground_truth": words}} for words in labels]
        kind = pa.struct({"ground_truth": pa.list_(pa.string())})
        column = pa.array([row["reward_model"] for row in rows], kind)
        parquet.write_table(pa.table({"reward_model": column}), folder / f"{name}.parquet")
    config = launch.compose("sft", ["preset.sft.score_every=5", f"preset.val_files={folder}/some.parquet"])
    check_scoring(config)
    config.preset.val_files = f"{folder}/none.parquet"
    with pytest.raises(PreflightError, match=r"no row of .*none.parquet \(preset.val_files\) has a label"):
        check_scoring(config)
    config.data.val_files = [f"{folder}/some.parquet"]  # goes before the preset's
    check_scoring(config)


def test_the_steps_after_which_clips_are_scored():
    config = launch.compose("sft", ["preset.sft.score_every=4"])
    assert [step for step in range(1, 11) if scores_at(config.preset.sft.score_every, step, 10)] == [4, 8, 10]
    config.preset.sft.score_every = 0
    assert not any(scores_at(config.preset.sft.score_every, step, 10) for step in range(1, 11))


def test_a_run_says_what_it_scores():
    plain = launch.compose("sft", [])
    assert [line.split()[0] for line in heading.of_sft(plain, 10)] == ["SFT", "model", "data", "steps"]
    config = launch.compose(
        "sft", ["preset.sft.score_every=4", "preset.sft.score_clips=-1", "preset.val_files=v.parquet"]
    )
    scores, wheels = heading.of_sft(config, 10)[4:]
    assert scores.startswith("scores  every 4 steps, slow and fast, of all clips of v.parquet")
    assert wheels.startswith("wheels  built-in")


@pytest.mark.slow
def test_a_model_without_processor_is_named_before_anything_heavy(folder):
    (folder / "processor_config.json").unlink()
    done = run(f"preset.sft.model_path={folder}")
    assert done.returncode == 2
    assert "has no processor" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.seam
def test_step_log_drops_what_came_after_the_checkpoint(tmp_path):
    from recipe.mer_r1.training.sft_trainer import StepLog

    path = tmp_path / "run" / "metrics.jsonl"
    metrics = {"loss": 1.0, "grad_norm": 2.0, "lr": 1e-3}
    log = StepLog(path, step=0, total=6)
    for _ in range(4):
        log.write(metrics, 0.1)
    with path.open("a") as file:
        file.write('{"step": 5, "da')  # cut off by a kill
    resumed = StepLog(path, step=2, total=6)
    resumed.write(metrics, 0.1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[0]["data"]["train/loss"] == 1.0
    StepLog(path, step=0, total=6)
    assert path.read_text() == "", "a run from the start begins a new file"


@pytest.mark.seam
def test_a_loss_that_grows_is_warned_of_once_and_not_again_after_a_resume(tmp_path, capsys):
    from recipe.mer_r1.training.sft_trainer import StepLog

    path = tmp_path / "metrics.jsonl"
    log = StepLog(path, step=0, total=100)
    for loss in [1.0] * 10 + [3.0] * 12:
        log.write({"loss": loss, "grad_norm": 1.0, "lr": 1e-3}, 0.1)
    assert capsys.readouterr().out.count("WARNING: step 13: the loss has grown from 1 to 1.6") == 1
    StepLog(path, step=22, total=100).write({"loss": 3.0, "grad_norm": 1.0, "lr": 1e-3}, 0.1)
    assert "WARNING" not in capsys.readouterr().out


@pytest.mark.seam
def test_a_validation_is_one_line_with_the_mean_over_its_batches(tmp_path, capsys):
    from verl.utils import tensordict_utils as tu

    from recipe.mer_r1.training.sft_trainer import StepLog

    def output(**metrics):
        return tu.get_tensordict(tensor_dict={}, non_tensor_dict={"metrics": metrics})

    class Worker:
        losses = iter([1.0, 2.0, 0.5, 0.7])

        def infer_batch(self, data):
            return output(loss=next(self.losses))

    log, worker = StepLog(tmp_path / "metrics.jsonl", step=0, total=8), Worker()
    log.validations(worker, batches=2)
    for _ in range(2):
        log.write({"loss": 3.0, "grad_norm": 1.0, "lr": 1e-3}, 0.1)
        worker.infer_batch(None)
        worker.infer_batch(None)
    found = [(line["step"], line["data"]) for line in steps(tmp_path)]
    assert [(step, data["val/loss"]) for step, data in found if "val/loss" in data] == [(1, 1.5), (2, 0.6)]
    assert "step 2/8  validation loss 0.600" in capsys.readouterr().out


def take_parts_away(shard):
    """The third clip is only seen, the fourth only heard."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = parquet.read_table(shard).to_pylist()
    for row, column, placeholder in ((rows[2], "audios", "<audio>"), (rows[3], "videos", "<video>")):
        row[column] = []
        row["prompt"][0]["content"] = row["prompt"][0]["content"].replace(placeholder, "")
    parquet.write_table(pa.Table.from_pylist(rows), shard)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    import tiny_clips

    from verl_ext.models.tiny import make_tiny, read_shards

    folder = tmp_path_factory.mktemp("inputs")
    shard = tiny_clips.write_shard(folder / "clips")
    take_parts_away(shard)
    _, texts, words = read_shards([shard])
    make_tiny(texts, words, folder / "init", vocab_size=600)
    return [f"preset.sft.model_path={folder}/init", f"preset.sft.train_files={shard}"]


SMALL = ["preset.sft.batch_size=4", "preset.sft.micro_batch_size=4", "preset.sft.steps=6", "preset.sft.save_every=2"]


def steps(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.seam
def test_too_long_an_example_is_named_before_training(inputs, tmp_path):
    done = run(*inputs, *SMALL, f"run_dir={tmp_path}", "preset.sft.max_length=40")
    assert done.returncode == 2
    assert "over data.max_length=40" in done.stderr
    assert "Traceback" not in done.stderr


def started(*arguments):
    """A run of which nothing is read."""
    return subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)


def await_files(process, *files):
    deadline = time.monotonic() + 240
    while not all(file.exists() for file in files):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def kill_while_it_writes(process, unfinished):
    """Held as soon as a checkpoint is begun, and killed if it was held before the checkpoint's end."""
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        if unfinished.exists():
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
            if unfinished.exists():
                process.kill()
                process.wait()
                return
            process.send_signal(signal.SIGCONT)
        time.sleep(0.002)
    process.kill()
    pytest.fail("no checkpoint was caught half written")


@pytest.mark.e2e
def test_a_killed_and_stopped_run_goes_on_and_ends_as_one_that_was_not(inputs, tmp_path):
    from safetensors.torch import load_file

    small = [*inputs, *SMALL, "preset.sft.steps=12", "preset.sft.save_every=4"]
    whole = run(*small, f"run_dir={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr[-3000:]
    assert "step 12/12" in whole.stdout + whole.stderr

    checkpoints = tmp_path / "cut" / "checkpoints"
    tracker = checkpoints / "latest_checkpointed_iteration.txt"
    process = started(*small, f"run_dir={tmp_path}/cut")
    await_files(process, tracker)
    kill_while_it_writes(process, checkpoints / "unfinished")
    assert (tracker.read_text(), (checkpoints / "unfinished").exists()) == ("4", True)

    log = tmp_path / "cut" / "metrics.jsonl"
    log.rename(tmp_path / "before.jsonl")  # so that its coming is the first step of the next
    process = started(*small, f"run_dir={tmp_path}/cut")
    await_files(process, log)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(240) == 75
    stopped = int(tracker.read_text())
    assert 4 < stopped < 12
    assert [line["step"] for line in steps(tmp_path / "cut")] == [*range(5, stopped + 1)]

    resumed = run(*small, f"run_dir={tmp_path}/cut")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert not (checkpoints / "unfinished").exists()
    assert [line["step"] for line in steps(tmp_path / "cut")] == [*range(5, 13)]
    losses = [[line["data"]["train/loss"] for line in steps(tmp_path / name)] for name in ("whole", "cut")]
    assert losses[1] == pytest.approx(losses[0][4:], rel=1e-4)
    first, second = (load_file(tmp_path / name / "model/model.safetensors") for name in ("whole", "cut"))
    assert first.keys() == second.keys()
    assert all(bool((first[name] - second[name]).abs().max() < 1e-4) for name in first)


@pytest.mark.e2e
def test_two_ranks_train_on_the_same_examples_and_validate(inputs, tmp_path):
    other = tmp_path / "validation.parquet"
    shutil.copyfile(inputs[1].partition("=")[2], other)
    for ranks in (1, 2):
        done = run(
            *inputs,
            *SMALL,
            f"run_dir={tmp_path}/{ranks}",
            f"trainer.n_gpus_per_node={ranks}",
            "data.micro_batch_size_per_gpu=2",
            f"data.val_files=[{other}]",
            "trainer.test_freq=4",
            "preset.sft.score_every=4",
            "preset.sft.score_clips=3",
        )
        assert done.returncode == 0, done.stderr[-3000:]
    lines = {name: steps(tmp_path / name) for name in ("1", "2")}
    validated = {
        name: [(line["step"], line["data"]["val/loss"]) for line in found if "val/loss" in line["data"]]
        for name, found in lines.items()
    }
    assert [step for step, _ in validated["1"]] == [4, 6]
    assert validated["1"][1][1] < validated["1"][0][1]  # the shard has the rows of the training
    for one, two in zip(validated["1"], validated["2"], strict=True):
        assert two == (one[0], pytest.approx(one[1], rel=1e-2))
    losses = [
        [line["data"]["train/loss"] for line in found if "train/loss" in line["data"]] for found in lines.values()
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    for ranks, found in lines.items():
        scored = {line["step"]: line["data"] for line in found if "perf/score_seconds" in line["data"]}
        assert [*scored] == [4, 6]
        names = [f"{mode}/{score}" for mode in ("slow", "fast") for score in ("f1", "recall", "precision", "format")]
        means = {f"val-aux/test/{name}/mean@1" for name in names}
        assert scored[6].keys() == means | {"val/failed", "perf/score_seconds"}
        assert scored[6]["val/failed"] == 0
        answers = (tmp_path / ranks / "validation" / "6.jsonl").read_text().splitlines()
        clips = [(line["clip"], line["input"].endswith("<answer>")) for line in map(json.loads, answers)]
        assert clips == [(f"clip{place}", fast) for place in range(3) for fast in (False, True)]
