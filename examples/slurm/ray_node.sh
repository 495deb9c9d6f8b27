#!/usr/bin/env bash
# Ray on one node of a job, as a job step: runs until the step ends, and leaves nothing on the node.
#   ray_node.sh head|worker ADDRESS NODE TEMP LOGS [OPTION of `ray start` …]
# ADDRESS is IP:PORT of the head. The system chooses free ports for everything else, and TEMP belongs to this job and
# this node only, so several jobs can share a node. Ray's log files are copied to LOGS/ray-NODE/.
set -euo pipefail
role=$1 address=$2 node=$3 temp=$4 logs=$5
shift 5

# SLURM sets both on some clusters, and Ray and verl refuse ROCR_VISIBLE_DEVICES.
[[ -z ${CUDA_VISIBLE_DEVICES:-} ]] || unset ROCR_VISIBLE_DEVICES

# The CPUs that this step may use, and at most those of the job.
cpus=$("$PYTHON" -m recipe.mer_r1.run.machine cpus)
((cpus < SLURM_CPUS_ON_NODE)) || cpus=$SLURM_CPUS_ON_NODE

# With INTERFACE, Ray, NCCL, gloo and vLLM use this network interface. Ray's workers get these variables.
network=()
if [[ -n ${INTERFACE:-} ]]; then
    own=$("$PYTHON" -m recipe.mer_r1.run.machine address "$INTERFACE")
    network=("--node-ip-address=$own")
    export NCCL_SOCKET_IFNAME=$INTERFACE GLOO_SOCKET_IFNAME=$INTERFACE VLLM_HOST_IP=$own
fi

keep_logs() {
    mkdir -p "$logs/ray-$node"
    cp -r "$temp"/session_latest/logs/. "$logs/ray-$node/" || echo "$node: Ray has no log files to copy" >&2
    rm -rf "$temp"
}
trap keep_logs EXIT
trap : TERM # Ray gets TERM too; this script waits until Ray has ended

case $role in
head) where=(--head "--port=${address##*:}" --include-dashboard=false) ;;
worker) where=("--address=$address") ;;
*) echo "$0: the role must be head or worker, not $role" >&2 && exit 2 ;;
esac

# The run's options for a node's resources come last, so they override the number of the job's CPUs.
"$(dirname "$PYTHON")/ray" start "${where[@]}" --block --disable-usage-stats \
    "--node-name=$node" "--temp-dir=$temp" "--num-cpus=$cpus" "${network[@]}" \
    --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 "$@"
