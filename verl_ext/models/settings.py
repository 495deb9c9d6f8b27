"""What a run says to verl's engines about the model, and the names of the Thinker's encoders. Imports nothing.

Of a model, verl's engines see only its config. So ``model.override_config`` puts these attributes there, and an export
leaves them out.
"""

TOWERS = {"vision": "visual", "audio": "audio_tower"}
"""The encoders, by the attribute of the Thinker that holds each."""

FROZEN = "frozen_towers"
"""Attribute of a full Omni config: the towers that training leaves as they are."""

SHARED_PROMPT = "shared_prompt"
"""Attribute of a config: False for a row of its own for every response. True, or not there: one row a prompt."""

SHARED_PROMPT_ATTENTION = "shared_prompt_attention"
"""Attribute of a config, for rows with several continuations: "flex" for FlexAttention; "sdpa", or not there: SDPA."""

KEPT_FEATURES = "kept_features_mib"
"""Attribute of a config: MiB for the features of frozen encoders that a step keeps; 0 for none. Not there: 1024."""

OF_THE_RUN = (FROZEN, SHARED_PROMPT, SHARED_PROMPT_ATTENTION, KEPT_FEATURES)
