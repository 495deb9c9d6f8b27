"""Estimate the cost of an RL run: `python -m recipe.mer_r1.estimate preset=… cluster=… [experiment=…] [key=value …]`.

Prints the tokens per clip, operations and memory of each phase, seconds per step and GPU hours, next to those of the
paper. The configuration is that of main_ppo with the same overrides. Other assumptions are in conf/estimate.yaml;
change them with estimate.KEY=VALUE. These are estimates: no number was measured on a GPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.table import Table

from recipe.mer_r1.files import exits
from recipe.mer_r1.run import launch

PROG = "python -m recipe.mer_r1.estimate"
_PREFIX = "estimate."
_WIDE = 120


@exits.plain("estimate", "interrupted")
def main(arguments: Sequence[str]) -> int:
    """Estimate and print; the exit code, 2 where the configuration is at fault."""
    if {"-h", "--help"} & {*arguments}:
        print(__doc__)
        return 0
    # Before transformers is imported: its config of the talker, which is not used here, names tokens that it lacks.
    for name, value in launch.ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from recipe.mer_r1.estimate.workload import EstimateError
    from recipe.mer_r1.run.on_policy import OldLogProbsError

    try:
        assumed = assumptions([text for text in arguments if text.startswith(_PREFIX)])
        config = launch.compose("ppo", [text for text in arguments if not text.startswith(_PREFIX)])
        show(config, assumed, Console() if Console().is_terminal else Console(width=_WIDE))
    except (EstimateError, OldLogProbsError, HydraException, OmegaConfBaseException) as error:
        print(f"{PROG}: {error}", file=sys.stderr)
        return exits.INPUT
    return 0


def assumptions(overrides: Sequence[str]) -> DictConfig:
    """conf/estimate.yaml with estimate.KEY=VALUE put in; an unknown key is an OmegaConfBaseException."""
    found = OmegaConf.load(launch.CONF / "estimate.yaml")
    OmegaConf.set_struct(found, True)
    for text in overrides:
        key = text.removeprefix(_PREFIX).partition("=")[0]
        OmegaConf.select(found, key, throw_on_missing=True)
        found.merge_with_dotlist([text.removeprefix(_PREFIX)])
    return found


def show(config: DictConfig, assumed: DictConfig, console: Console) -> None:
    """Compute and print.

    Raises:
        EstimateError: the run is not on GPUs, or clips, responses, micro-batches or the model cannot be used.
        OldLogProbsError: `mer_r1.old_log_probs` cannot be obeyed.
    """
    from recipe.mer_r1.estimate import choices, memory, phases, workload
    from recipe.mer_r1.run import on_policy

    preset = config.preset
    if preset.device == "cpu":
        raise workload.EstimateError(
            f"preset={preset.name} runs on a CPU, but estimates are for GPUs; choose cluster=…, or see measured CPU "
            "times in docs/results/demo.md"
        )
    if config.trainer.v1.trainer_mode != "mer_r1_sync":
        raise workload.EstimateError(
            "only mode=sync can be estimated: in other modes the overlap of rollout and update depends on the run"
        )
    on_policy.check(config)
    model = workload.load_model(config, assumed.model)
    clip = workload.clip(model, preset, assumed)
    _facts(config, assumed, model, clip, console)
    found = list(phases.phases(config, assumed, model, clip))
    _times(found, assumed, console)
    if on_policy.skips_pass(config):
        console.print("old log-probs: those of the update itself; there is no pass for them", highlight=False)
    _total(config, assumed, sum(phase.seconds for phase in found) + assumed.other_seconds, console)
    _memory("update", memory.update(config, assumed, model, clip), assumed, console)
    _memory("generation", memory.generation(config, assumed, model), assumed, console)
    found = list(choices.choices(config, assumed, model, clip))
    _choices(found, choices.favoured(found, assumed.gpu.memory_gb), console)
    room, needed = preset.rollout.memory_utilization * assumed.gpu.memory_gb, memory.vllm_needs(config, model)
    if needed > room:
        console.print(
            f"[red]vLLM's weights alone need {needed:.0f} GB, but vLLM has {room:.0f} GB: raise tensor_parallel[/]"
        )
    console.print("assumptions (conf/estimate.yaml):", highlight=False)
    for key, value in OmegaConf.to_container(assumed).items():
        console.print(f"  estimate.{key} = {value}", highlight=False, soft_wrap=True)


def _facts(config: DictConfig, assumed: DictConfig, model: object, clip: object, console: Console) -> None:
    from recipe.mer_r1.estimate import choices, packing

    preset = config.preset
    gpus = preset.nnodes * preset.ranks_per_node
    console.print(
        f"{model.name}: {model.all / 1e9:.2f} billion parameters (text {model.text / 1e9:.2f}, towers "
        f"{model.towers / 1e9:.2f}), {model.trained / 1e9:.2f} trained",
        f"one clip of {assumed.clip.seconds:g} s: {clip.video_tokens} video + {clip.audio_tokens} audio + "
        f"{clip.text_tokens} text = {clip.prompt} tokens; one response: {assumed.response_tokens} tokens",
        f"one step: {preset.prompts_per_step} prompts × {preset.responses_per_prompt} responses on {preset.nnodes} × "
        f"{preset.ranks_per_node} {assumed.gpu.name}: "
        f"{preset.prompts_per_step * preset.responses_per_prompt / gpus:g} responses per GPU",
        sep="\n",
        highlight=False,
    )
    if packing.shares_prompts(config):
        saved = choices.tokens_saved(config, clip, assumed.response_tokens)
        text = f"the update reads {saved:.2f} times fewer tokens than with a row for each response"
        if saved == 1:
            text = "nothing to share, because a micro-batch has one response of a prompt"
        console.print(f"shared prompt: {text}", highlight=False)


def _times(found: Sequence[object], assumed: DictConfig, console: Console) -> None:
    table = Table(
        "phase", "forwards", "tokens each", "TFLOP", "GB", "compute s", "move s", "seconds", title="one step on one GPU"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for phase in found:
        batch = phase.batch
        size = (str(batch.forwards), f"{batch.tokens / batch.forwards:,.0f}") if batch else ("", "")
        numbers = (phase.flops / 1e12, phase.gb, phase.compute, phase.move, phase.seconds)
        table.add_row(phase.name, *size, *(f"{number:,.1f}" for number in numbers))
    table.add_row("other", "", "", "", "", "", "", f"{assumed.other_seconds:,.1f}")
    console.print(table)


def _choices(found: Sequence[object], best: object | None, console: Console) -> None:
    """One row each."""
    names = [key.rpartition(".")[2] for key in found[0].settings]
    table = Table(
        *names,
        "step s",
        "update GB",
        "generation GB",
        "",
        title="what the cluster could choose",
        caption="limits that cut these responses alike have one row" if "micro_batch_tokens" in names else None,
    )
    for column in table.columns[:-1]:
        column.justify = "right"
    for choice in found:
        notes = ["as set"] * choice.is_set + ["favoured"] * (choice is best) + ["does not fit"] * (not choice.fits)
        settings = (str(value).lower() for value in choice.settings.values())
        numbers = (f"{number:.1f}" for number in (choice.seconds, choice.update_gb, choice.generation_gb))
        table.add_row(*settings, *numbers, ", ".join(notes), style="bold" if choice is best else None)
    console.print(table)


def _total(config: DictConfig, assumed: DictConfig, step: float, console: Console) -> None:
    preset, paper = config.preset, assumed.paper
    rows = config.experiment.train_rows
    clips = min(rows, assumed.clips) if rows > 0 else assumed.clips
    steps = preset.steps or clips * preset.epochs // preset.prompts_per_step
    hours, gpus = steps * step / 3600, preset.nnodes * preset.ranks_per_node
    console.print(
        f"[bold]{step:.1f} s per step, {steps:,} steps: {hours:.1f} h, {hours * gpus:,.0f} GPU hours[/] "
        f"(the paper: {paper.hours} h on {paper.gpus} GPUs, {paper.hours * paper.gpus} GPU hours)",
        highlight=False,
    )


def _memory(phase: str, parts: dict[str, float], assumed: DictConfig, console: Console) -> None:
    total = sum(parts.values())
    text = " + ".join(f"{name} {gb:.1f}" for name, gb in parts.items() if gb)
    colour = "red" if total > assumed.gpu.memory_gb else "green"
    verdict = "does not fit" if total > assumed.gpu.memory_gb else "fits"
    console.print(
        f"memory, {phase}: {text} = [{colour}]{total:.1f} GB, {verdict} in {assumed.gpu.memory_gb} GB[/]",
        highlight=False,
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
