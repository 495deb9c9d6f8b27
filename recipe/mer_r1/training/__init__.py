"""What plugs into verl: the trainer and what it calls."""
