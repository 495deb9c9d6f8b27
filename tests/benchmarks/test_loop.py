"""benchmarks/loop.py: runs in turns, their ratios, what a watch sees of a run, and which trees can be compared."""

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import loop
import loop_run
import loop_tree
import loop_turns
import process_tree
import pytest
from process_tree import Mark

from recipe.mer_r1.pipeline import process

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
OLD, NEW = ("old", "baseline"), ("new", "baseline")


def run(step, gen=1.0, **more):
    return {"median_seconds": {"gen": gen, "step": step}, "peak_rss_gb": 4.0, "pss_gb": None, **more}


def test_every_other_turn_is_reversed():
    forth = [("old", "baseline"), ("new", "baseline"), ("old", "mer_r1"), ("new", "mer_r1")]
    assert loop_turns.plan(["old", "new"], ["baseline", "mer_r1"], 3) == [forth, forth[::-1], forth]


def test_ratios_are_taken_within_a_turn():
    # The machine is twice as slow in the second turn: each turn still says 2 and 2.5, not 1 or 5.
    results = {OLD: [run(8.0), run(20.0, gen=0.0)], NEW: [run(4.0), run(8.0, gen=0.0, peak_rss_gb=2.0)]}
    found = loop_turns.compared(results, [(OLD, NEW)])
    (ratio,) = found["ratios"]
    assert (ratio["above"], ratio["below"]) == ("old baseline", "new baseline")
    assert ratio["step"] == {"median": 2.25, "min": 2.0, "max": 2.5}
    assert ratio["peak_rss_gb"] == {"median": 1.5, "min": 1.0, "max": 2.0}
    assert ratio["gen"] == {"median": 1.0, "min": 1.0, "max": 1.0}  # the second turn has none to divide by
    assert "pss_gb" not in ratio
    old, new = found["numbers"]
    assert (old["tree"], old["experiment"], old["step"]) == (*OLD, {"median": 14.0, "min": 8.0, "max": 20.0})
    assert new["gen"] == {"median": 0.5, "min": 0.0, "max": 1.0}
    assert [(entry["tree"], entry["turn"], entry["median_seconds"]["step"]) for entry in found["runs"]] == [
        ("old", 0, 8.0),
        ("old", 1, 20.0),
        ("new", 0, 4.0),
        ("new", 1, 8.0),
    ]
    assert json.loads(json.dumps(found)) == found


def test_the_table_has_a_column_for_each_kind_and_ratio():
    results = {OLD: [run(8.0), run(20.0)], NEW: [run(4.0), run(8.0, startup_seconds=30.0)]}
    lines = loop_turns.table(loop_turns.compared(results, [(OLD, NEW)])).split("\n")
    assert lines[0].split("  ")[-1].strip() == "old baseline / new baseline"
    (step,) = [line for line in lines if line.startswith("step ")]
    assert step.split("  ")[1:] != []
    assert [cell.strip() for cell in step.split("  ") if cell] == [
        "step",
        "14.00 (8.00–20.00)",
        "6.00 (4.00–8.00)",
        "2.25 (2.00–2.50)",
    ]
    (startup,) = [line for line in lines if line.startswith("startup_seconds")]
    assert startup.split()[1:] == ["–", "30.00", "–"]


def test_what_is_compared():
    both = ["baseline", "mer_r1"]
    assert loop_turns.pairs(["old", "new"], both) == [
        (("old", "baseline"), ("new", "baseline")),
        (("old", "mer_r1"), ("new", "mer_r1")),
        (("new", "mer_r1"), ("new", "baseline")),
    ]
    assert loop_turns.pairs(["new"], both) == [(("new", "mer_r1"), ("new", "baseline"))]


def write_steps(folder, *steps):
    folder.mkdir(exist_ok=True)
    lines = [
        {"step": number, "data": {f"timing_s/{key}": value for key, value in data.items()}} for number, data in steps
    ]
    for line in lines:
        line["data"]["perf/total_num_tokens"] = 100 + line["step"]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def test_phases_are_medians_after_the_first_step(tmp_path):
    write_steps(
        tmp_path,
        (1, {"gen": 9.0, "old_log_prob": 3.0, "step": 20.0}),
        (2, {"gen": 1.0, "old_log_prob": 0.5, "step": 2.0}),
        (3, {"gen": 3.0, "step": 4.0}),  # a step that skipped the pass
        (4, {"gen": 2.0, "old_log_prob": 0.25, "step": 5.0}),
    )
    assert loop_run.phases(tmp_path) == {
        "steps": 4,
        "first_step_seconds": 20.0,
        "median_seconds": {"gen": 2.0, "old_log_prob": 0.25, "step": 4.0, "other": 1.0},
        "tokens_per_step": 103,
    }


def test_cpu_seconds_of_a_step_leave_out_the_first_and_the_last():
    samples = [(10.0, 0.0), (20.0, 30.0), (30.0, 40.0), (40.0, 90.0)]
    marks = [Mark(1, 15.0), Mark(2, 20.0), Mark(3, 25.0), Mark(4, 39.0)]
    # 15 CPU-s at the first mark, 35 at the third
    assert process_tree.cpu_seconds_per_step(samples, marks, total=4) == pytest.approx((35.0 - 15.0) / 2)
    assert process_tree.cpu_seconds_per_step(samples, marks[:2], total=2) is None
    assert process_tree.cpu_seconds_per_step([], marks, total=4) is None


def test_startup_ends_where_the_first_step_begins(tmp_path):
    watch = process_tree.TreeWatch(tmp_path / "metrics.jsonl")
    watch.begin, watch.marks = 100.0, [Mark(2, 150.0)]  # two steps were over when the first look saw them
    found = watch.summary([8.0, 4.0, 3.0])
    assert (found["startup_seconds"], found["first_step_done_seconds"]) == (38.0, 46.0)
    watch.marks = []
    assert watch.summary([8.0])["startup_seconds"] is None


BURNS = """
import json, sys, time
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
held = bytearray(50_000_000)
time.sleep(0.2)
with open(sys.argv[1], "w", buffering=1) as file:
    for step, cpu in enumerate([0.15, 0.25, 0.25, 0.05], 1):
        burn(cpu)
        data = {"timing_s/step": cpu, "timing_s/gen": cpu / 2, "perf/total_num_tokens": 7}
        file.write(json.dumps({"step": step, "data": data}) + chr(10))
"""


def test_a_watched_command(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "POLL_SECONDS", 0.02)
    command = [sys.executable, "-c", BURNS, str(tmp_path / "metrics.jsonl")]
    found = loop_run.watched(command, tmp_path, tmp_path / "log")
    assert found["median_seconds"] == {"gen": 0.125, "step": 0.25, "other": 0.125}
    assert found["cpu_seconds_per_step"] == pytest.approx(0.25, abs=0.05)
    assert 0.15 < found["startup_seconds"] < found["first_step_done_seconds"] == found["startup_seconds"] + 0.15
    assert 0.05 < found["peak_rss_gb"] < 0.2
    assert 0.04 < found["pss_gb"] <= found["peak_rss_gb"]
    with pytest.raises(SystemExit, match=r"exit status 3 of: .*python"):
        loop_run.watched([sys.executable, "-c", "raise SystemExit(3)"], tmp_path, tmp_path / "log")


def test_inputs_are_absolute_and_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "outputs/demo/sft/model", "outputs/demo/corpus/shards"):
        Path(name).mkdir(parents=True)
    Path("outputs/demo/corpus/shards/rl.parquet").touch()
    with pytest.raises(SystemExit, match=r"preset.val_files: .*test.parquet does not exist. Run `make demo`"):
        loop.inputs([], tmp_path)
    Path("outputs/demo/corpus/shards/test.parquet").touch()
    assert loop.inputs(["preset.lr=1e-4", "preset.model_path=mine"], tmp_path) == [
        f"preset.model_path={tmp_path}/mine",
        f"preset.train_files={tmp_path}/outputs/demo/corpus/shards/rl.parquet",
        f"preset.val_files={tmp_path}/outputs/demo/corpus/shards/test.parquet",
        "preset.lr=1e-4",
    ]


def test_code_from_elsewhere_is_seen(tmp_path):
    (tmp_path / "tree").mkdir()
    origins = {
        "verl_ext": str(tmp_path / "tree" / "verl_ext" / "__init__.py"),
        "verl_ext.plugin": str(tmp_path / "tree2" / "verl_ext" / "plugin.py"),
        "verl_ext.vllm_plugin": None,
    }
    assert loop_tree.foreign(origins, tmp_path / "tree") == {
        "verl_ext.plugin": origins["verl_ext.plugin"],
        "verl_ext.vllm_plugin": "nowhere",
    }


def test_entry_points_of_setup():
    text = 'from setuptools import setup\nsetup(name="a", entry_points={"verl.plugins": ["a = b"]})\n'
    assert loop_tree.entry_points(text) == {"verl.plugins": ["a = b"]}
    assert loop_tree.entry_points("setup()") == {}
    assert "vllm.general_plugins" in loop_tree.entry_points((ROOT / "setup.py").read_text())


def test_trees_that_do_other_work_are_refused():
    ours = {"preset": {"prompts_per_step": 24, "poll_seconds": 0.0, "media": {"fps": 2.0}}}
    theirs = {"preset": {"prompts_per_step": 8, "poll_seconds": 1.0, "media": {"fps": 2.0}}}
    assert loop_tree.different_work(ours, theirs) == {"preset.prompts_per_step": [24, 8]}
    with pytest.raises(SystemExit, match=r"preset.prompts_per_step: 24 here, 8 there"):
        loop_tree.require_same_work(ours, theirs)
    loop_tree.require_same_work(ours, ours)
    composed = loop_tree.composed(ROOT, ["experiment=mer_r1"])
    missing = object()
    for key in loop_tree.WORK:
        value = composed
        for name in key.split("."):
            value = value.get(name, missing)
        assert value is not missing, key


def test_a_tree_that_does_not_know_a_key():
    with pytest.raises(SystemExit, match=r"unknown key preset.prompts(.|\n)*Use only keys that both trees know"):
        loop_tree.composed(ROOT, ["preset.prompts=3"])


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A small repository with a project of its own, in the place of this one."""
    root = tmp_path / "project"
    for name in ("verl_ext", "recipe/mer_r1", "data_prep"):
        (root / name).mkdir(parents=True)
        (root / name / "__init__.py").touch()
    (root / "recipe" / "__init__.py").touch()
    for name in ("verl_ext/plugin.py", "verl_ext/vllm_plugin.py", "recipe/mer_r1/main_ppo.py"):
        (root / name).touch()
    (root / "setup.py").write_text((ROOT / "setup.py").read_text())
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(loop_tree, "ROOT", root)
    monkeypatch.setattr(loop_tree._git, "__kwdefaults__", {"tree": root})
    return root


def test_a_checkout_runs_its_own_code_and_is_removed(repository):
    (repository / "verl_ext" / "new.py").touch()
    (repository / "verl_ext" / "plugin.py").write_text("changed = True\n")
    assert loop_tree.name_of(repository).endswith("+")
    with loop_tree.checkout("HEAD") as tree:
        assert tree.is_dir()
        assert (tree / "verl_ext" / "plugin.py").read_text() == ""
        assert f"{loop_tree.name_of(tree)}+" == loop_tree.name_of(repository)
        loop_tree.require_own_code(tree)
        (tree / "setup.py").write_text("setup(entry_points={'verl.plugins': []})")
        with pytest.raises(SystemExit, match="has other entry points"):
            loop_tree.require_own_code(tree)
        (tree / "verl_ext" / "vllm_plugin.py").unlink()
        with pytest.raises(SystemExit, match=r"verl_ext.vllm_plugin of .* is imported from nowhere"):
            loop_tree.require_own_code(tree)
    assert not tree.exists()
    listed = subprocess.run(["git", "-C", repository, "worktree", "list"], capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1
    with pytest.raises(SystemExit, match="git knows no such revision"), loop_tree.checkout("nothing"):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run-dir", "x", "--against", "HEAD"], "need new runs"),
        (["preset.steps"], "not an override"),
        (["--against", "HEAD", "experiment=rd"], "takes --experiments"),
        (["--steps", "1"], "at least 2"),
        (["--against", "HEAD", "--turns", "0"], "at least 1"),
    ],
)
def test_wrong_arguments(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["loop.py", *arguments])
    with pytest.raises(SystemExit):
        loop.arguments()
    assert message in capsys.readouterr().err


def test_a_comparison_checks_both_trees_and_runs_them_in_turns(monkeypatch, tmp_path):
    taken, checked = [], []

    @contextmanager
    def checkout(revision):
        yield tmp_path / revision

    def measure(run_dir, steps, overrides, tree):
        taken.append((tree, overrides[0], steps))
        return run(8.0 if tree == tmp_path / "old" else 4.0)

    monkeypatch.setattr(loop, "inputs", lambda overrides, root: ["preset.model_path=/m", *overrides])
    monkeypatch.setattr(loop, "measure", measure)
    monkeypatch.setattr(loop_tree, "checkout", checkout)
    monkeypatch.setattr(loop_tree, "name_of", lambda tree: tree.name)
    monkeypatch.setattr(loop_tree, "require_own_code", checked.append)
    seed = {ROOT: 0, tmp_path / "old": 0}
    monkeypatch.setattr(loop_tree, "composed", lambda tree, overrides: {"preset": {"seed": seed[tree]}})
    found = loop.compare(["rd", "mer_r1"], "old", 2, 7, ["preset.lr=1"])
    forth = [(tree, f"experiment={name}", 7) for name in ("rd", "mer_r1") for tree in (tmp_path / "old", ROOT)]
    assert taken == forth + forth[::-1]
    assert checked == [tmp_path / "old", ROOT]
    assert [(ratio["above"], ratio["below"], ratio["step"]["median"]) for ratio in found["ratios"]] == [
        ("old rd", "this tree rd", 2.0),
        ("old mer_r1", "this tree mer_r1", 2.0),
        ("this tree mer_r1", "this tree rd", 1.0),
    ]
    assert found["commits"] == {"old": "old", "this tree": ROOT.name}
    seed[ROOT] = 1
    with pytest.raises(SystemExit, match=r"preset.seed: 1 here, 0 there"):
        loop.compare(["rd"], "old", 2, 7, [])
    found = loop.compare(["baseline", "mer_r1"], None, 1, 7, [])
    assert [(ratio["above"], ratio["below"]) for ratio in found["ratios"]] == [
        ("this tree mer_r1", "this tree baseline")
    ]
