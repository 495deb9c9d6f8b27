# shellcheck shell=bash
# Requeue a job that continues later with the same command. Source this file; it has these functions:
#   preempted             whether SLURM takes the job's nodes for another job
#   requeue REASON        prints the reason and gives the job back to SLURM, which starts it again

# If a partition has a GraceTime and the cluster has no preempt_send_user_signal, the steps get TERM and the script gets
# no signal. If the script then ends, the job has failed, and SLURM does not start it again.
preempted() {
    [[ $(scontrol show job "$SLURM_JOB_ID") =~ PreemptTime=[0-9] ]]
}

requeue() {
    echo "job $SLURM_JOB_ID: $1; requeued, it will continue with the same command"
    scontrol requeue "$SLURM_JOB_ID"
}
