#!/usr/bin/env bash
# Makes .venv-peers, an environment of its own for ms-swift 4.6.0: 2.4 GB with the CPU build of torch, three minutes.
#
#   benchmarks/peers/setup.sh
#
# PYTHON (python3.11) is the interpreter, VENV (.venv-peers) the folder. pip installs torch as it is configured: where it
# finds no CPU build, it downloads the CUDA build, which is several GB larger. The project itself is not installed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
venv=${VENV:-.venv-peers}
pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check)

test -x "$venv/bin/python" || "${PYTHON:-python3.11}" -m venv "$venv"
"${pip[@]}" -r requirements/torch.txt
"${pip[@]}" --no-deps -r "$here/requirements.txt"
# a torchvision wheel that was built for CUDA does not import beside a CPU build of torch
PYTHONPATH=. "$venv/bin/python" -m verl_ext.install
"$venv/bin/python" -c 'import torchvision'
"$venv/bin/python" -c 'import importlib.metadata as m; print("ms-swift", m.version("ms_swift"), "with torch", m.version("torch"))'
