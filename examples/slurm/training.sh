# shellcheck shell=bash
# One run of main_ppo as a SLURM job that can be stopped and goes on. To source after ray_cluster.sh.
#   train key=value …     Ray on the job's nodes, main_ppo on them; returns its exit status
# USR1 (SLURM sends it some minutes before the time limit, or at a pre-emption) is passed on to main_ppo, which finishes
# its step, saves a checkpoint and ends with status 75; the job is then requeued, and the same command goes on from it.
# A run that ends because SLURM took its nodes goes on from its last checkpoint. Any other failure is not requeued.
source examples/slurm/requeue.sh

readonly STOPPED_AS_ASKED=75
DRIVER=
STOP_ASKED=

train() {
    local status=0 lines options=()
    trap _ask_to_stop USR1
    trap 'exit 143' TERM # scancel, or the time limit itself
    trap _end_all EXIT
    cluster_nodes
    # Overrides of the scripts come first: what follows may end with an option of Hydra's (--cfg=job).
    # Composes the run's configuration: a wrong override, or nodes that do not fit it, end the job here, in seconds.
    lines=$("$PYTHON" -m recipe.mer_r1.run.ray_cluster options "${#NODES[@]}" "preset.nnodes=${#NODES[@]}" "$@")
    [[ -z $lines ]] || mapfile -t options <<<"$lines"
    ray_up "${options[@]}"
    if [[ -z $STOP_ASKED ]]; then
        "$PYTHON" -m recipe.mer_r1.main_ppo "preset.nnodes=${#NODES[@]}" "$@" &
        DRIVER=$!
        # A signal ends `wait` at once, with the driver still at work.
        while kill -0 "$DRIVER" 2>/dev/null; do
            wait "$DRIVER" || true
        done
        wait "$DRIVER" || status=$?
    fi
    if [[ -n $STOP_ASKED ]] && _goes_on "$status"; then
        _end_all
        requeue "stopped as asked"
    elif ((status)) && preempted; then
        _end_all
        requeue "pre-empted"
    fi
    return "$status"
}

# Whether a run with this exit status goes on when it is started again: one that saved as asked, one that had not begun,
# or one that was still importing and so knew no better than to die of the signal.
_goes_on() {
    [[ $1 == 0 && -z $DRIVER || $1 == "$STOPPED_AS_ASKED" || $1 == $((128 + $(kill -l USR1))) ]]
}

_ask_to_stop() {
    STOP_ASKED=1
    echo "job $SLURM_JOB_ID: USR1; the run is asked to save and stop"
    if [[ -n $DRIVER ]]; then
        kill -USR1 "$DRIVER" 2>/dev/null || true
    fi
}

_end_all() {
    trap - EXIT
    if [[ -n $DRIVER ]] && kill -INT "$DRIVER" 2>/dev/null; then
        wait "$DRIVER" || true
    fi
    ray_down
}
