"""The machine below verl: the CPU platform, its weight transport, ports and processes."""
