#!/usr/bin/env bash
# Chromium and its driver for the tests of the page, from Debian's packages where that can be done.
set -euo pipefail

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    exit 0
fi
if [[ $(id -u) -eq 0 ]] && command -v apt-get >/dev/null; then
    echo "installing chromium and chromium-driver for the tests of the page"
    export DEBIAN_FRONTEND=noninteractive
    if apt-get update -qq </dev/null && apt-get install -y -qq --no-install-recommends chromium chromium-driver </dev/null >/dev/null; then
        exit 0
    fi
fi
echo "no chromium and chromedriver here: the tests of the page in a browser are skipped (Debian: apt-get install chromium chromium-driver)"
