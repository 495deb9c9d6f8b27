"""Names of the Thinker's encoders, and how a run says which of them it leaves as they are. Imports nothing."""

TOWERS = {"vision": "visual", "audio": "audio_tower"}
"""The encoders, by the attribute of the Thinker that holds each."""

FROZEN = "frozen_towers"
"""Attribute of a full Omni config: the towers that training leaves as they are. verl's engines hear nothing of a model
but its config, so ``model.override_config`` puts it there; an export leaves it out."""
