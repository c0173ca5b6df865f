#!/bin/sh
# Makes .venv and installs the project with the exact versions of requirements.lock. Called by the Makefile, which
# skips it while the stamp it leaves is newer than pyproject.toml and the lock.
#   PYTHON=python3.12 scripts/setup.sh     to choose the interpreter
set -u

fail() { printf '\nset-up stopped: %s\n' "$1" >&2; exit 2; }

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if [ -n "${PYTHON:-}" ]; then
    suits "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 ($("$PYTHON" --version 2>&1 | tail -n 1))"
else
    for candidate in python3.12 python3.13 python3.11 python3; do
        if suits "$candidate"; then PYTHON=$candidate; break; fi
    done
    [ -n "${PYTHON:-}" ] || fail "no Python 3.11, 3.12 or 3.13 found; install one, or name it: make PYTHON=/path/to/python"
fi

stamp=.venv/.installed
log=.venv/setup.log
echo "set-up: .venv with $("$PYTHON" --version 2>&1) (once; about 7 GB, most of it PyTorch's CUDA libraries)"
version() { "$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null; }
[ "$(version .venv/bin/python)" = "$(version "$PYTHON")" ] || "$PYTHON" -m venv --clear .venv || fail "the virtual environment could not be made; on Debian: apt-get install python3-venv"

# The exit status of pip, not of tee: it is left in a file, since /bin/sh has no pipefail.
{ .venv/bin/python -m pip install --disable-pip-version-check -r requirements.lock &&
  .venv/bin/python -m pip install --disable-pip-version-check --no-deps --editable . ; echo $? > .venv/status; } 2>&1 | tee "$log" | grep -vE "^(Requirement already satisfied|Ignoring) "
if [ "$(cat .venv/status 2>/dev/null)" != 0 ]; then
    if grep -qiE 'no space left|disk quota' "$log"; then
        fail "the disk is full; .venv needs about 7 GB and pip as much again for a moment (TMPDIR= moves that part)"
    elif grep -qiE 'name resolution|connection|timed out|network is unreachable|getaddrinfo|proxy' "$log"; then
        fail "the package index could not be reached; check the network or the proxy and type the command again"
    fi
    fail "pip failed; its last lines are above, all of them in $log"
fi
rm -f .venv/status
touch "$stamp"
echo "set-up: done"
