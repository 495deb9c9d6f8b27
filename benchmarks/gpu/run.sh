#!/usr/bin/env bash
# What to measure on a GPU machine, in order of worth; needs no network. README.md in this folder says more.
#
#   benchmarks/gpu/run.sh cores     the numeric cores in fp32 and bf16 against slower ways (torch, transformers)
#   benchmarks/gpu/run.sh cost      time, memory and kernels at 3B and 7B shape              (torch, transformers)
#   benchmarks/gpu/run.sh recipe    install from WHEELS, then SFT and 5 RL steps of tiny and smol
#   benchmarks/gpu/run.sh all       the three, one after the other, in one budget
#   benchmarks/gpu/run.sh table     the results so far as a Markdown table
#
# PYTHON (python3)   OUT (outputs/gpu)   BUDGET seconds of this call (480)   WHEELS folder of wheels.sh
# DEVICE cuda|cpu    SMALL=1 sizes for a CPU      RETRY=1 run again what did not pass
#
# Exit status: 0 all passed; 1 something did not; 75 the time is up, call again: what is done is not repeated.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
python=${PYTHON:-python3}
export OUT=${OUT:-outputs/gpu} DEVICE=${DEVICE:-cuda} SMALL=${SMALL:-} RETRY=${RETRY:-}
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
end=$(($(date +%s) + ${BUDGET:-480}))

part() { # a part with the time that is left
    local script=$1
    if [[ $1 == recipe ]]; then script=recipe_run; fi # recipe.py would hide the package of that name
    BUDGET=$((end - $(date +%s))) PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" "$python" "$here/$script.py"
}

case ${1:-} in
cores | cost | recipe)
    part "$1"
    ;;
all)
    worst=0
    for name in cores cost recipe; do
        status=0
        part "$name" || status=$?
        # 1, a wrong result, tells more than 75, a call that has to be repeated
        if ((status != 0 && worst != 1)); then worst=$status; fi
    done
    exit "$worst"
    ;;
table)
    "$python" "$here/table.py" "$OUT"
    ;;
*)
    sed -n '2,/^set /s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
