"""What a run will take: tokens, floating-point operations, memory, time; from its configuration, without weights."""
