"""MME-Emotion's two-call protocol with a language model as judge: what `main_eval judge` runs."""
