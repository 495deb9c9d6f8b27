"""Can this machine run a job? Named checks, each with what was seen and how to fix it."""
