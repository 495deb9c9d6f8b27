"""`main_eval compare`: paired differences of two evaluations, with 95 % intervals over clips."""
