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

# Tests that look at the time may fail where several share few cores. A few that fail are run once more, one after the other, and named:
# one that fails alone as well has failed.
python_tests() {
    local failed_before=.pytest_cache/v/cache/lastfailed status again
    rm -f "$failed_before"
    .venv/bin/python -m pytest -q -rs -n auto --dist loadfile "$@"
    status=$?
    [[ $status == 1 && -s $failed_before ]] || return $status
    again=$(grep -c '": true' "$failed_before")
    ((again <= 5)) || return $status
    echo "== $again that failed, alone"
    cat "$failed_before"
    .venv/bin/python -m pytest -q -rs --last-failed --last-failed-no-failures none "$@" || return 1
    summary+=("note    $again passed in a second try, alone: see above")
}

# zenith-ffi has no Rust tests of its own: tests/torch/test_link.py examines it through Python.
if cargo nextest --version >/dev/null 2>&1; then
    part "Rust" cargo nextest run --workspace --locked --no-tests=pass --no-fail-fast --retries 1
    part "Rust examples in docs" cargo test --workspace --locked --quiet --doc
else
    echo "note: cargo-nextest is not installed, so cargo test runs instead (slower; same tests)." >&2
    part "Rust" cargo test --workspace --locked --quiet
fi
part "what the libraries import" .venv/bin/python scripts/audit_wheel.py python/zenith/*.so python/zenith_torch/*.so \
    python/zenith_jax/*.so \
    .venv/bin/zenith-run
# -rs lists what was skipped, and why. Many tests start processes of their own, so that a few at once fill the machine.
part "Python" python_tests --maxprocesses=4 --ignore=tests/jax "$@"
# Apart, because other tests fork, and threads of JAX do not survive that.
part "JAX, 8 devices" python_tests --maxprocesses=2 tests/jax "$@"
export ZENITH_JAX_DEVICES=1
part "JAX, 1 device" python_tests --maxprocesses=2 \
    tests/jax/test_{bad_blocks,link,loader,next_batch,normalize,state,stops}.py "$@"

echo
echo "== summary"
printf '%s\n' "${summary[@]}"
exit $failed
