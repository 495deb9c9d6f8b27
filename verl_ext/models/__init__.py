"""Qwen2.5-Omni's Thinker: classes, positions, made models, checkpoints."""
