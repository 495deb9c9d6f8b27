"""From a parquet row to a prompt: clips, their decoding, their tokens."""
