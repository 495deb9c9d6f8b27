"""The paper's tables with our numbers: how each is laid out. Written by `main_eval report`."""
