# shellcheck shell=bash
# A Ray cluster for one job, on all its nodes. The head is on the first node, where the batch script also runs. Source
# this file; it has these functions:
#   cluster_nodes         sets NODES, the array of the job's nodes
#   ray_up [OPTION …]     starts Ray on the nodes with these options of `ray start`, and waits until all have joined;
#                         sets and exports RAY_ADDRESS; fails with a message after RAY_NODES_TIMEOUT seconds
#   ray_down              stops the Ray of this job and no other
# Uses PYTHON (Ray is in the same environment), LOGS (a folder that every node can see) and SLURM's variables.

RAY_NODES_TIMEOUT=${RAY_NODES_TIMEOUT:-300}
RAY_END_SECONDS=90 # limit: a worker node with actors needs 30 s to drain, a busy machine needs longer
NODES=()
RAY_STEPS=() # process ids of the sruns, one per node

cluster_nodes() {
    local names
    names=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    mapfile -t NODES <<<"$names"
}

ray_up() {
    local deadline=$((SECONDS + RAY_NODES_TIMEOUT)) node
    mkdir -p "$LOGS"
    RAY_ADDRESS=$("$PYTHON" -m recipe.mer_r1.run.ray_cluster address)
    # Ray accepts only clients with this secret: else, on a shared machine, other users could run code as this user.
    RAY_AUTH_TOKEN=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
    export RAY_ADDRESS RAY_AUTH_TOKEN RAY_AUTH_MODE=token
    echo "Ray: head ${NODES[0]} ($RAY_ADDRESS), ${#NODES[@]} nodes; logs in $LOGS"
    _ray_step head "${NODES[0]}" "$@"
    _ray_wait "$deadline" "${NODES[0]}" || return 1
    for node in "${NODES[@]:1}"; do
        _ray_step worker "$node" "$@"
    done
    _ray_wait "$deadline" "${NODES[@]}"
}

# _ray_step ROLE NODE [OPTION …]: a job step with all of the job's CPUs and GPUs on the node (srun does not take
# --cpus-per-task from sbatch). --export=ALL: after SBATCH_EXPORT=NONE, srun would start the step without any variable.
# The folder has a number instead of the node's name, because the paths of Ray's sockets must not be longer than 107 bytes.
_ray_step() {
    local role=$1 node=$2 folder=/tmp/ray-$SLURM_JOB_ID-${#RAY_STEPS[@]}
    shift 2
    srun --export=ALL --overlap --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
        --job-name="ray-$node" --output="$LOGS/ray-$node.log" --open-mode=append \
        bash examples/slurm/ray_node.sh "$role" "$RAY_ADDRESS" "$node" "$folder" "$LOGS" "$@" &
    RAY_STEPS+=($!)
}

# _ray_wait DEADLINE NODE …: returns 0 when these nodes have joined; 1 when the time is over, or when a step has ended.
_ray_wait() {
    local left=$(($1 - SECONDS)) waiter ended=
    shift
    "$PYTHON" -m recipe.mer_r1.run.ray_cluster wait "$RAY_ADDRESS" "$left" "$@" &
    waiter=$!
    while [[ -z $ended ]] && kill -0 "$waiter" 2>/dev/null; do
        sleep 0.5
        ended=$(_ended_steps)
    done
    [[ -z $ended ]] || kill "$waiter" 2>/dev/null || true
    if ! wait "$waiter"; then
        echo "Ray: not all of $* joined.${ended:+ The step on $ended ended early.}" \
            "The last lines of each node's log:" >&2
        tail -n 5 "$LOGS"/ray-*.log >&2
        return 1
    fi
}

# Nodes whose step has ended; steps start in the order of NODES.
_ended_steps() {
    local index names=()
    for index in "${!RAY_STEPS[@]}"; do
        kill -0 "${RAY_STEPS[index]}" 2>/dev/null || names+=("${NODES[index]}")
    done
    echo "${names[*]}"
}

# SLURM sends TERM to the processes of the steps: Ray ends and its logs are kept. A step that has not ended after
# RAY_END_SECONDS, or has not started, is killed through its srun.
ray_down() {
    local line deadline=$((SECONDS + RAY_END_SECONDS))
    ((${#RAY_STEPS[@]})) || return 0
    squeue --steps --noheader --jobs="$SLURM_JOB_ID" --format="%i %j" | while read -r line; do
        [[ $line != *" ray-"* ]] || scancel --quiet --signal=TERM "${line%% *}" || true
    done
    while ((SECONDS < deadline)) && _any_alive "${RAY_STEPS[@]}"; do
        sleep 0.5
    done
    kill -TERM "${RAY_STEPS[@]}" 2>/dev/null || true
    wait "${RAY_STEPS[@]}" 2>/dev/null || true
    RAY_STEPS=()
}

_any_alive() {
    local process
    for process; do
        ! kill -0 "$process" 2>/dev/null || return 0
    done
    return 1
}
