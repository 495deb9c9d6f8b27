"""From a run's checkpoint to a folder to publish or serve, with a model card that says where it comes from."""
