"""benchmarks/peers: what ms-swift is given, and the times that its plugin writes. ms-swift itself is not installed."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import ms_swift
import pytest

ROOT = Path(__file__).resolve().parents[2]
PRESET = {
    "prompts_per_step": 24,
    "responses_per_prompt": 4,
    "micro_batch_size": 32,
    "gradient_checkpointing": False,
    "max_prompt_length": 192,
    "max_response_length": 64,
    "kl_coef": 0.001,
    "lr": 1e-4,
    "seed": 0,
}


def test_a_row():
    row = {
        "data_source": "mer_micro",
        "prompt": [{"role": "user", "content": "<video><audio>What?"}],
        "videos": ["/a.mp4"],
        "audios": ["/a.wav"],
        "reward_model": {"style": "rule", "ground_truth": ["sad"]},
    }
    assert ms_swift.dataset_row(row) == {
        "messages": row["prompt"],
        "videos": ["/a.mp4"],
        "audios": ["/a.wav"],
        "solution": ["sad"],
    }


def test_the_work_is_the_presets(tmp_path):
    given = ms_swift.flags(PRESET, 885, 7, tmp_path)
    flags = dict(zip(given[::2], given[1::2], strict=True))
    assert flags["--num_generations"] == "4"
    assert int(flags["--per_device_train_batch_size"]) * int(flags["--gradient_accumulation_steps"]) == 24 * 4
    assert (flags["--max_length"], flags["--max_completion_length"]) == ("192", "64")
    assert (flags["--beta"], flags["--learning_rate"], flags["--top_k"]) == ("0.001", "0.0001", "885")
    assert (flags["--max_steps"], flags["--system"], flags["--gradient_checkpointing"]) == ("7", "", "false")
    few = ms_swift.flags({**PRESET, "prompts_per_step": 2}, 885, 7, tmp_path)
    assert few[few.index("--per_device_train_batch_size") + 1] == "8"
    with pytest.raises(SystemExit, match="must divide the 96 responses"):
        ms_swift.flags({**PRESET, "micro_batch_size": 36}, 885, 7, tmp_path)


def test_clips_are_sampled_as_ours(tmp_path):
    media = {"fps": 2.0, "max_frames": 4, "min_pixels": 3136, "max_pixels": 3136}
    found = ms_swift.environment(media, tmp_path)
    assert found["FPS_MAX_FRAMES"] == "4"
    # 56 x 56 pixels are 4 tokens of 28 x 28
    assert (found["VIDEO_MIN_TOKEN_NUM"], found["VIDEO_MAX_TOKEN_NUM"]) == ("4", "4")
    assert found["PEER_METRICS"] == str(tmp_path / "metrics.jsonl")


def test_the_model_folder(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    thinker = {
        "audio_token_index": 3,
        "image_token_index": 12,
        "video_token_index": 13,
        "text_config": {"vocab_size": 885},
    }
    (model / "config.json").write_text(json.dumps({"thinker_config": thinker}))
    (model / "generation_config.json").write_text('{"eos_token_id": 2}')
    assert ms_swift.copy_model(model, tmp_path / "copy") == 885
    assert json.loads((tmp_path / "copy" / "generation_config.json").read_text()) == {
        "eos_token_id": 2,
        "suppress_tokens": [3, 12, 13],
    }
    assert json.loads((model / "generation_config.json").read_text()) == {"eos_token_id": 2}
    assert (tmp_path / "copy" / "config.json").resolve() == (model / "config.json").resolve()
    assert (tmp_path / "copy" / "spk_dict.pt").is_file()


class Clock:
    now = 100.0

    def perf_counter(self):
        return self.now


@pytest.fixture
def plugin(monkeypatch, tmp_path):
    """The plugin with stand-ins for the three modules of ms-swift that it imports, and with a clock of ours."""

    class Base:
        def __init__(self, args, trainer):
            self.args, self.trainer = args, trainer

    class Orm:
        def __init__(self, args=None, **_):
            pass

    contents = {
        "swift": {},
        "swift.callbacks": {"callbacks_map": {}},
        "swift.callbacks.base": {"TrainerCallback": Base},
        "swift.rewards": {},
        "swift.rewards.orm": {"ORM": Orm, "orms": {}},
    }
    for name, values in contents.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "ms_swift_plugin", raising=False)
    monkeypatch.setenv("PEER_METRICS", str(tmp_path / "metrics.jsonl"))
    import ms_swift_plugin

    monkeypatch.setattr(ms_swift_plugin, "time", Clock())
    yield ms_swift_plugin
    sys.modules.pop("ms_swift_plugin")


def test_the_reward_is_f1_plus_format(plugin):
    reward = plugin.orms["emotion"]()
    completions = ["<think>t</think><answer>sad, angry</answer>", "sad", ""]
    assert reward(completions, solution=[["sad"]] * 3, videos=[]) == [pytest.approx(2 / 3 + 1), 0.0, 0.0]


def test_the_times_of_a_step(plugin, tmp_path):
    import torch

    clock = plugin.time

    def spend(seconds):
        clock.now += seconds

    class Trainer:
        model, ref_model = "policy", "reference"

        def _generate_completions(self):
            spend(4.0)

        def _get_per_token_logps_and_entropies(self, model):
            spend({"policy": 0.5, "reference": 0.25}[model])

        def _prepare_batch_inputs(self):
            for model in ("policy", "reference", "policy", "reference"):
                spend(0.125)  # encoding
                self._get_per_token_logps_and_entropies(model)
            mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
            return [{"model_inputs": {"attention_mask": mask}}] * 2

        def _generate_and_score_completions(self):
            self._generate_completions()
            spend(0.0625)  # reward
            return self._prepare_batch_inputs()

    trainer = Trainer()
    times = plugin.callbacks_map["step_times"](None, trainer)
    times.on_train_begin()
    for step in (1, 2):
        spend(1.0 if step == 1 else 0.0)
        assert len(trainer._generate_and_score_completions()) == 2
        trainer._get_per_token_logps_and_entropies("policy")  # in the loss
        spend(2.0)  # backward and optimizer
        times.on_step_end(None, SimpleNamespace(global_step=step), None)
    first, second = (json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (first["step"], first["data"]["timing_s/step"]) == (1, 1.0 + 4.0 + 0.0625 + 2.0 + 0.5 + 2.0)
    assert second == {
        "step": 2,
        "data": {
            "timing_s/gen": 4.0,
            "timing_s/encode": 0.5,
            "timing_s/old_log_prob": 1.0,
            "timing_s/ref": 0.5,
            "timing_s/update_actor": 2.5,
            "timing_s/step": 4.0 + 0.0625 + 2.0 + 0.5 + 2.0,
            "perf/total_num_tokens": 10,
        },
    }


def test_the_setup_script_and_its_pins():
    subprocess.run(["bash", "-n", "benchmarks/peers/setup.sh"], cwd=ROOT, check=True)
    lines = (ROOT / "benchmarks" / "peers" / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert (pins["ms_swift"], pins["transformers"], pins["trl"]) == ("4.6.0", "5.10.4", "0.29.1")
    assert "torch" not in pins


def test_both_run_in_turns(monkeypatch, capsys, tmp_path):
    def result(step):
        return {"median_seconds": {"step": step}, "peak_rss_gb": 2.0}

    taken = []

    def peer(python, overrides, steps, folder):
        taken.append(("ms-swift", folder.name, overrides, steps))
        return result(6.0)

    def ours(folder, steps, overrides, tree):
        taken.append(("ours", folder.name, overrides, steps, tree))
        return result(3.0)

    monkeypatch.setattr(ms_swift, "run_peer", peer)
    monkeypatch.setattr(ms_swift, "measure", ours)
    monkeypatch.setattr(ms_swift, "inputs", lambda overrides, root: ["preset.model_path=/m", *overrides])
    given = ["--json", "--with-ours", "--turns", "2", "--steps", "5", "--python", sys.executable, "preset.seed=1"]
    monkeypatch.setattr(sys, "argv", ["ms_swift.py", *given])
    ms_swift.main()
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    (ratio,) = found["ratios"]
    assert (ratio["above"], ratio["step"]["median"]) == ("ms-swift baseline", 2.0)
    same = ["preset.model_path=/m", "preset.seed=1"]
    peers = [("ms-swift", "0-0", same, 5), ("ms-swift", "1-0", same, 5)]
    own = [("ours", f"{turn}-1", ["experiment=baseline", *same], 5, ms_swift.ROOT) for turn in (0, 1)]
    assert taken == [peers[0], own[0], own[1], peers[1]]
