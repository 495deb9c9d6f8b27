"""`data_prep check`: every clip of a corpus decoded to its end, and what would keep it from training."""
