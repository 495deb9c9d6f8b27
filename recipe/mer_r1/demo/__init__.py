"""`make demo`: the main job on a laptop, from a made corpus to scores before and after RL, by the real commands."""
