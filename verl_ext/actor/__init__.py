"""The actor side: the FSDP engine and the log-probs that it returns."""
