"""Sentiment of an answer's emotion words, for WAF: what `main_eval sentiment` runs."""
