"""The paper's figures with our numbers, one a file: a pure function that collects the numbers, drawn by `panels`."""
