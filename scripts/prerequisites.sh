#!/usr/bin/env bash
# Says in one sentence each what is missing to build Zenith, and how to get it.
set -u
python=${PYTHON:-python3}
missing=0

lacks() {
    echo "missing: $1" >&2
    missing=1
}

if [[ $(uname -s) != Linux ]]; then
    lacks "Linux; Zenith is built and run on Linux only. Use a Linux machine, a container or WSL 2."
fi
if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
    lacks "Rust (cargo, rustc) 1.95 or newer; see https://rustup.rs, then open a new shell."
else
    version=$(rustc --version | cut -d' ' -f2)
    if [[ $(printf '%s\n' 1.95 "$version" | sort -V | head -1) != 1.95 ]]; then
        lacks "Rust 1.95 or newer (found $version); run \`rustup update\`."
    fi
fi
if ! command -v "$python" >/dev/null; then
    lacks "$python, Python 3.11 or newer; install it, or name another: make setup PYTHON=python3.12"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    lacks "Python 3.11 or newer (found $("$python" --version)); name another: make setup PYTHON=python3.12"
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    lacks "the venv module of $python; on Debian: apt install python3-venv"
elif ! "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; then
    lacks "the headers of $python (Python.h); on Debian: apt install python3-dev"
fi
if ! command -v "${CXX:-c++}" >/dev/null && ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then
    lacks "a C++17 compiler; on Debian: apt install g++"
fi
exit $missing
