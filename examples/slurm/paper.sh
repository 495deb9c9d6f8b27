#!/usr/bin/env bash
# The paper's run as two jobs: SFT, then RL from the model of SFT. Start it in the root of the repository.
#   bash examples/slurm/paper.sh preset=omni7b [key=value …] [--partition=… and other options of sbatch]
# Overrides are for both programs, options for both jobs. Environment variables: NODES (default 2), EXPERIMENT (mer_r1)
# and OUT (outputs/paper). The two runs are OUT/sft and OUT/EXPERIMENT.
set -euo pipefail
PYTHON=${PYTHON:-$PWD/.venv/bin/python} NODES=${NODES:-2} EXPERIMENT=${EXPERIMENT:-mer_r1} OUT=${OUT:-outputs/paper}
options=(--parsable "--nodes=$NODES") overrides=()
for argument; do
    case $argument in
    experiment=* | run_dir=* | preset.model_path=*)
        echo "$argument: paper.sh sets this key (use EXPERIMENT or OUT), or use sft.sbatch and train.sbatch" >&2 && exit 2
        ;;
    -*) options+=("$argument") ;;
    *) overrides+=("$argument") ;;
    esac
done
sft=("run_dir=$OUT/sft" "${overrides[@]}")
rl=("experiment=$EXPERIMENT" "run_dir=$OUT/$EXPERIMENT" "preset.model_path=$OUT/sft/model" "${overrides[@]}")

# A wrong override stops the script here.
"$PYTHON" -m recipe.mer_r1.main_sft "${sft[@]}" --cfg=job >/dev/null
"$PYTHON" -m recipe.mer_r1.main_ppo "${rl[@]}" --cfg=job >/dev/null

first=$(sbatch "${options[@]}" examples/slurm/sft.sbatch "${sft[@]}")
second=$(sbatch "${options[@]}" "--dependency=afterok:${first%;*}" --kill-on-invalid-dep=yes \
    examples/slurm/train.sbatch "${rl[@]}")
echo "SFT: job ${first%;*}. RL: job ${second%;*}, which waits for SFT. The model will be in $OUT/$EXPERIMENT/model."
