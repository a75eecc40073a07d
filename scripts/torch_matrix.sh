#!/usr/bin/env bash
# Runs tests/torch on the wheel given, under the oldest torch that is supported, the one we build with, and the newest.
set -euo pipefail
wheel=$(realpath "$1")
root=$(realpath "$(dirname "$0")/..")
summary=()
failed=0
# The wheel is under test, so python/ must not be importable; the root is, for tests that start processes.
unset PYTHONPATH

for torch in torch==2.11.0 torch==2.13.0 torch; do
    venv=$CACHE/matrix/${torch/==/-}
    [[ -x $venv/bin/python ]] || "$PYTHON" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --upgrade "$torch" numpy pyarrow pytest hypothesis
    "$venv/bin/pip" install --quiet --disable-pip-version-check --force-reinstall --no-deps "$wheel"
    version=$("$venv/bin/python" -c 'import torch; print(torch.__version__)')
    echo "== torch $version"
    # The ecosystem's libraries are pinned for one torch, in requirements/dev.txt.
    if (cd "$venv" && PYTHONPATH=$root bin/python -m pytest -q -rs -c "$root/pyproject.toml" \
        --ignore "$root/tests/torch/ecosystem" "$root/tests/torch"); then
        summary+=("passed  torch $version")
    else
        summary+=("FAILED  torch $version")
        failed=1
    fi
done

printf '%s\n' "== summary" "${summary[@]}"
exit $failed
