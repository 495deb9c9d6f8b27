# shellcheck shell=bash
# A job that goes on later, by the same command. To source.
#   preempted             whether SLURM wants the job's nodes for another
#   requeue REASON        says why, and gives the job back to SLURM, which starts it again

# Where a partition has a GraceTime and the cluster no preempt_send_user_signal, the steps get TERM and the script nothing;
# a script that then ends has failed, and SLURM would not start it again.
preempted() {
    [[ $(scontrol show job "$SLURM_JOB_ID") =~ PreemptTime=[0-9] ]]
}

requeue() {
    echo "job $SLURM_JOB_ID: $1; requeued, and the same command goes on"
    scontrol requeue "$SLURM_JOB_ID"
}
