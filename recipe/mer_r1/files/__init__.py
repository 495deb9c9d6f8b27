"""What data_prep and the recipe share about files: read without trust, written whole, with their provenance."""
