#!/usr/bin/env bash
# One node's part of a job's Ray, as a job step: runs until the step is ended, and leaves nothing on the node.
#   ray_node.sh head|worker ADDRESS NODE TEMP LOGS [OPTION of `ray start` …]
# ADDRESS is IP:PORT of the head. All other ports are free ones that the system chooses, and TEMP is this job's and
# this node's own, so that jobs can share a node. Ray's log files are kept in LOGS/ray-NODE/.
set -euo pipefail
role=$1 address=$2 node=$3 temp=$4 logs=$5
shift 5

keep_logs() {
    mkdir -p "$logs/ray-$node"
    cp -r "$temp"/session_latest/logs/. "$logs/ray-$node/" || echo "$node: no log files of Ray to keep" >&2
    rm -rf "$temp"
}
trap keep_logs EXIT
trap : TERM # which Ray gets too; this script waits until it has ended

case $role in
head) where=(--head "--port=${address##*:}" --include-dashboard=false) ;;
worker) where=("--address=$address") ;;
*) echo "$0: head or worker, not $role" >&2 && exit 2 ;;
esac

# What the run says of a node's resources comes last, and so wins over the number of the job's CPUs.
"$(dirname "$PYTHON")/ray" start "${where[@]}" --block --disable-usage-stats \
    "--node-name=$node" "--temp-dir=$temp" "--num-cpus=$SLURM_CPUS_ON_NODE" \
    --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 "$@"
