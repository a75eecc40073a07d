#!/usr/bin/env bash
# Runs every test and ends with one line per part. Arguments go to pytest.
set -u
summary=()
failed=0

part() {
    local name=$1 start=$SECONDS
    shift
    echo "== $name"
    if "$@"; then
        summary+=("passed  $name ($((SECONDS - start)) s)")
    else
        summary+=("FAILED  $name ($((SECONDS - start)) s): $*")
        failed=1
    fi
}

# zenith-ffi has no Rust tests of its own: tests/torch/test_link.py examines it through Python.
if cargo nextest --version >/dev/null 2>&1; then
    part "Rust" cargo nextest run --workspace --locked --no-tests=pass --no-fail-fast
    part "Rust examples in docs" cargo test --workspace --locked --quiet --doc
else
    echo "note: cargo-nextest is not installed, so cargo test runs instead (slower; same tests)." >&2
    part "Rust" cargo test --workspace --locked --quiet
fi
part "what the libraries import" .venv/bin/python scripts/audit_wheel.py python/zenith/*.so python/zenith_torch/*.so \
    python/zenith_jax/*.so \
    .venv/bin/zenith-run
# -rs lists what was skipped, and why. Many tests start processes of their own, so that a few at once fill the machine.
part "Python" .venv/bin/python -m pytest -q -rs -n auto --maxprocesses=4 --dist loadfile --ignore=tests/jax "$@"
# Apart, because other tests fork, and threads of JAX do not survive that.
part "JAX, 8 devices" .venv/bin/python -m pytest -q -rs -n auto --maxprocesses=2 --dist loadfile tests/jax "$@"
part "JAX, 1 device" env ZENITH_JAX_DEVICES=1 .venv/bin/python -m pytest -q -rs -n auto --maxprocesses=2 --dist loadfile \
    tests/jax/test_{bad_blocks,link,loader,next_batch,normalize,state,stops}.py "$@"

echo
echo "== summary"
printf '%s\n' "${summary[@]}"
exit $failed
