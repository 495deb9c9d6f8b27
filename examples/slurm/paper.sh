#!/usr/bin/env bash
# The paper's run as two jobs, from the repository's root: SFT, then RL from SFT's model.
#   bash examples/slurm/paper.sh preset=omni7b [key=value …] [--partition=… and other options of sbatch's]
# Overrides go to both programs, options to both jobs. From the environment: NODES (2), EXPERIMENT (mer_r1), OUT
# (outputs/paper), where OUT/sft and OUT/EXPERIMENT are the two runs.
set -euo pipefail
PYTHON=${PYTHON:-$PWD/.venv/bin/python} NODES=${NODES:-2} EXPERIMENT=${EXPERIMENT:-mer_r1} OUT=${OUT:-outputs/paper}
options=(--parsable "--nodes=$NODES") overrides=()
for argument; do
    case $argument in
    experiment=* | run_dir=* | preset.model_path=*)
        echo "$argument: chosen here (EXPERIMENT, OUT); the scripts beside this one take it" >&2 && exit 2
        ;;
    -*) options+=("$argument") ;;
    *) overrides+=("$argument") ;;
    esac
done
sft=("run_dir=$OUT/sft" "${overrides[@]}")
rl=("experiment=$EXPERIMENT" "run_dir=$OUT/$EXPERIMENT" "preset.model_path=$OUT/sft/model" "${overrides[@]}")

# A wrong override ends here.
"$PYTHON" -m recipe.mer_r1.main_sft "${sft[@]}" --cfg=job >/dev/null
"$PYTHON" -m recipe.mer_r1.main_ppo "${rl[@]}" --cfg=job >/dev/null

first=$(sbatch "${options[@]}" examples/slurm/sft.sbatch "${sft[@]}")
second=$(sbatch "${options[@]}" "--dependency=afterok:${first%;*}" --kill-on-invalid-dep=yes \
    examples/slurm/train.sbatch "${rl[@]}")
echo "SFT: job ${first%;*}. RL: job ${second%;*}, which waits for it. The model will be $OUT/$EXPERIMENT/model."
