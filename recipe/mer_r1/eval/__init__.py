"""Evaluation: what `python -m recipe.mer_r1.main_eval` runs."""
