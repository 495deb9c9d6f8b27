"""A chain of commands: each is started, watched, shown, stamped when it is done, and ended with all that it started."""
