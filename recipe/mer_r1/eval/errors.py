"""The one error that bad input raises; the command line turns it into a message and exit code 2."""


class InputError(ValueError):
    """A file or option that can't be used; the message names the file, the row or key, and the way out."""
