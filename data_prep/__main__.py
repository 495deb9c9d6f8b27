"""`python -m data_prep`."""

import sys

from data_prep.cli import app
from recipe.mer_r1.files.home import expand_home

if __name__ == "__main__":
    sys.argv[1:] = [expand_home(argument) for argument in sys.argv[1:]]
    app(prog_name="python -m data_prep")
