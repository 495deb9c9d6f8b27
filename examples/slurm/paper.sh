#!/usr/bin/env bash
# The paper's run as two jobs: SFT, then RL from the model of SFT. Start it in the root of the repository.
#   bash examples/slurm/paper.sh preset=omni7b [key=value …] [--partition=… and other options of sbatch]
# Each override goes to the programs that know its key: preset.… to both, experiment.… to RL. Options are for both jobs.
# Environment variables: NODES (default 2), EXPERIMENT (mer_r1) and OUT (outputs/PRESET, as without this script). The two
# runs are OUT/sft and OUT/EXPERIMENT.
set -euo pipefail
PYTHON=${PYTHON:-$PWD/.venv/bin/python} NODES=${NODES:-2} EXPERIMENT=${EXPERIMENT:-mer_r1} preset=tiny
options=(--parsable "--nodes=$NODES") overrides=()
for argument; do
    case $argument in
    experiment=* | run_dir=* | preset.model_path=*)
        echo "$argument: paper.sh sets this key (use EXPERIMENT or OUT), or use sft.sbatch and train.sbatch" >&2 && exit 2
        ;;
    -*) options+=("$argument") ;;
    *)
        [[ $argument != preset=* ]] || preset=${argument#preset=}
        overrides+=("$argument")
        ;;
    esac
done
OUT=${OUT:-outputs/$preset}
sft=("run_dir=$OUT/sft") rl=("experiment=$EXPERIMENT" "run_dir=$OUT/$EXPERIMENT" "preset.model_path=$OUT/sft/model")

# A wrong override stops the script here. The experiment is given too, because its keys differ.
dealt=$("$PYTHON" -m recipe.mer_r1.run.split "experiment=$EXPERIMENT" "${overrides[@]}")
while read -r program override; do
    case $program in
    sft) sft+=("$override") ;;
    ppo) [[ $override == experiment=* ]] || rl+=("$override") ;;
    esac
done <<<"$dealt"

first=$(sbatch "${options[@]}" examples/slurm/sft.sbatch "${sft[@]}")
second=$(sbatch "${options[@]}" "--dependency=afterok:${first%;*}" --kill-on-invalid-dep=yes \
    examples/slurm/train.sbatch "${rl[@]}")
echo "SFT: job ${first%;*}. RL: job ${second%;*}, which waits for SFT. The model will be in $OUT/$EXPERIMENT/model."
