#!/usr/bin/env bash
# Runs tests/jax on the wheel given, under the oldest jax that is supported and the newest, with one device and with eight.
set -euo pipefail
wheel=$(realpath "$1")
root=$(realpath "$(dirname "$0")/..")
summary=()
failed=0
# The wheel is under test, so python/ must not be importable; the root is, for tests that start processes.
unset PYTHONPATH

for jax in jax==0.9.1 jax; do
    venv=$CACHE/matrix/${jax/==/-}
    [[ -x $venv/bin/python ]] || "$PYTHON" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --upgrade "$jax" flatbuffers numpy pyarrow pytest
    "$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
    version=$("$venv/bin/python" -c 'import jax; print(jax.__version__)')
    for devices in 1 8; do
        echo "== jax $version, $devices devices"
        if (cd "$venv" && ZENITH_JAX_DEVICES=$devices PYTHONPATH=$root bin/python -m pytest -q -rs -c "$root/pyproject.toml" \
            "$root/tests/jax"); then
            summary+=("passed  jax $version, $devices devices")
        else
            summary+=("FAILED  jax $version, $devices devices")
            failed=1
        fi
    done
done

printf '%s\n' "== summary" "${summary[@]}"
exit $failed
