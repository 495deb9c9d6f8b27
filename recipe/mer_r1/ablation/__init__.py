"""The paper's ablation as a program: a table of runs, a runner that makes what is missing, records, and a page."""
