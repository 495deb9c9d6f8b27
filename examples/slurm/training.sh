# shellcheck shell=bash
# One run of main_ppo as a SLURM job that can stop and continue. Source this file after ray_cluster.sh; it has:
#   train key=value …     starts Ray and main_ppo on the job's nodes; returns the exit status of main_ppo
# SLURM sends USR1 some minutes before the time limit, or at a pre-emption. main_ppo then finishes its step, saves a
# checkpoint and ends with status 75. The job is requeued, and the same command continues from the checkpoint. If SLURM
# takes the nodes of a run, the run continues from its last checkpoint. After any other failure the job is not requeued.
source examples/slurm/requeue.sh

readonly STOPPED_AS_ASKED=75
DRIVER=
STOP_ASKED=

train() {
    local status=0 lines options=()
    # SLURM sets both on some clusters, and Ray and verl refuse ROCR_VISIBLE_DEVICES.
    [[ -z ${CUDA_VISIBLE_DEVICES:-} ]] || unset ROCR_VISIBLE_DEVICES
    trap _ask_to_stop USR1
    trap 'exit 143' TERM # scancel, or the end of the time limit
    trap _end_all EXIT
    cluster_nodes
    # Overrides of the scripts come first, because the arguments can end with an option of Hydra (--cfg=job).
    # Composes the configuration of the run: a wrong override, or a wrong number of nodes, ends the job here, in seconds.
    lines=$("$PYTHON" -m recipe.mer_r1.run.ray_cluster options "${#NODES[@]}" "preset.nnodes=${#NODES[@]}" "$@")
    [[ -z $lines ]] || mapfile -t options <<<"$lines"
    ray_up "${options[@]}"
    if [[ -z $STOP_ASKED ]]; then
        "$PYTHON" -m recipe.mer_r1.main_ppo "preset.nnodes=${#NODES[@]}" "$@" &
        DRIVER=$!
        # A signal ends `wait` at once, while the driver still runs.
        while kill -0 "$DRIVER" 2>/dev/null; do
            wait "$DRIVER" || true
        done
        wait "$DRIVER" || status=$?
    fi
    if [[ -n $STOP_ASKED ]] && _goes_on "$status"; then
        _end_all
        requeue "stopped on request"
    elif ((status)) && preempted; then
        _end_all
        requeue "pre-empted"
    fi
    return "$status"
}

# Whether a run with this exit status continues when it starts again: it saved on request, it had not started, or the
# signal killed it while it was still importing.
_goes_on() {
    [[ $1 == 0 && -z $DRIVER || $1 == "$STOPPED_AS_ASKED" || $1 == $((128 + $(kill -l USR1))) ]]
}

_ask_to_stop() {
    STOP_ASKED=1
    echo "job $SLURM_JOB_ID: USR1; asking the run to save and stop"
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
