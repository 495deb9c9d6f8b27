"""The files of benchmarks and of its folders are scripts: they import each other from their own folder."""

import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path += [str(BENCHMARKS / "gpu"), str(BENCHMARKS / "peers"), str(BENCHMARKS)]
