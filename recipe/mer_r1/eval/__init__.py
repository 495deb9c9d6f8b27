"""Evaluation: answers of a model, their scores, tables and figures."""
