"""A run as a process: launch, checks, record, checkpoints, stop and watch."""
