"""A dress rehearsal: a preset for GPUs, run unchanged on a CPU but for what does not fit there."""
