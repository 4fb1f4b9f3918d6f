#!/usr/bin/env bash
# serving.sh VENV: make the environment that Triton serves from, unless it is there and up to date.
# PYTHON names the interpreter to use: its version must be one that the wheel has a stub for, 3.8 to 3.13.
set -euo pipefail

venv=$1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
constraints=$here/serving-constraints.txt
python=${PYTHON:-python3}
stamp=$venv/.pins
wanted=$(cat "$constraints" "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1)

if [[ -x $venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi
if [[ ! -x $venv/bin/python ]]; then
    echo "making $venv with $("$python" --version) ($python)"
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        echo "venv failed; on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
fi
echo "installing Triton's server and its Python side into $venv: about 110 MB to fetch"
began=$SECONDS
echo unfinished >"$stamp"
"$venv/bin/python" -m pip install --disable-pip-version-check --upgrade --quiet 'pip>=25.1'
# What the wheels ask for beyond these is for interfaces that are not used here.
"$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar on --no-deps --requirement "$constraints"

site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
stub=$site/pytriton/tritonserver/python_backend_stubs/$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')/triton_python_backend_stub
libraries=$site/nvidia_pytriton.libs:$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
if ! missing=$(LD_LIBRARY_PATH=$libraries ldd "$stub" 2>&1) || grep -q 'not found' <<<"$missing"; then
    echo "the Python stub of Triton cannot run here:" >&2
    grep 'not found' <<<"$missing" >&2 || echo "$missing" >&2
    echo "on Debian: apt-get install libpython3-dev (or name a Python built with its shared library: PYTHON=...)" >&2
    exit 1
fi
echo "$wanted" >"$stamp"
echo "ready in $((SECONDS - began)) s, $(du -sh "$venv" | cut -f1) in $venv"
