#!/bin/sh
# Sets up each Python from 3.11 to 3.13 that is found, in build/python3.X, and runs the tests on it.
#   PYTHONS="/path/to/python3.11 ..."   the interpreters, instead of those found
#   ARGS=                               arguments of pytest;  CPU=1: as for scripts/setup.sh
set -u

find_python() {
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python; do
        # pyenv's own python3.X may refuse to run
        if "$candidate" -c '' 2>/dev/null; then echo "$candidate"; return; fi
    done
}

number() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])'; }

# Sets `outcome`.
try() {
    venv=build/python$(number "$1")
    PYTHON=$1 VENV=$venv scripts/setup.sh || { outcome="set-up failed"; return; }
    # quotes in ARGS hold words together, as in the other targets
    eval "set -- ${ARGS:-}"
    OMP_NUM_THREADS=1 "$venv/bin/python" -m pytest -n "${WORKERS:-2}" --dist worksteal \
        -m "not slurm" "$@" && outcome=passed || outcome="tests failed"
}

report='' status=0
for version in 3.11 3.12 3.13; do
    [ -z "${PYTHONS:-}" ] || break
    python=$(find_python $version)
    if [ -n "$python" ]; then
        try "$python"
    else
        outcome="not found; PYTHONS= takes a path, and \`uv python install $version\` brings one"
    fi
    [ "$outcome" = passed ] || status=1
    report="$report
Python $version: $outcome"
done
for python in ${PYTHONS:-}; do
    try "$python"
    [ "$outcome" = passed ] || status=1
    report="$report
$python: $outcome"
done
echo "$report"
exit $status
