#!/bin/sh
# Creates .venv and installs the project with the exact versions of requirements.lock, each file of
# which is compared with its checksum there. The Makefile calls it, unless its stamp file is newer
# than pyproject.toml and the lock.
#   PYTHON=python3.12 scripts/setup.sh     chooses the interpreter
set -u

fail() { printf '\nset-up stopped: %s\n' "$1" >&2; exit 2; }

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if [ -n "${PYTHON:-}" ]; then
    suits "$PYTHON" ||
        fail "PYTHON=$PYTHON is not a Python 3.11, 3.12 or 3.13 ($("$PYTHON" --version 2>&1 | tail -n 1))"
else
    for candidate in python3.12 python3.13 python3.11 python3; do
        if suits "$candidate"; then PYTHON=$candidate; break; fi
    done
    [ -n "${PYTHON:-}" ] ||
        fail "no Python 3.11, 3.12 or 3.13 found; install one, or give its path: make PYTHON=/path/to/python"
fi

stamp=.venv/.installed
log=.venv/setup.log
echo "set-up: .venv with $("$PYTHON" --version 2>&1) (once; about 7 GB, most of it PyTorch's CUDA libraries)"
version() { "$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null; }
[ "$(version .venv/bin/python)" = "$(version "$PYTHON")" ] || "$PYTHON" -m venv --clear .venv ||
    fail "cannot create the virtual environment; on Debian: apt-get install python3-venv"

# /bin/sh has no pipefail, so a file carries the exit status of pip past tee.
# The project itself has no checksum, and is built with the setuptools of the lock.
{ .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements.lock &&
  .venv/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation \
      --editable . ; echo $? > .venv/status; } 2>&1 |
    tee "$log" | grep -vE "^(Requirement already satisfied|Ignoring) "
if [ "$(cat .venv/status 2>/dev/null)" != 0 ]; then
    if grep -qi 'do not match the hashes' "$log"; then
        fail "a package differs from the one of requirements.lock: the index or a cache was altered, or it offers its own build; see $log"
    elif grep -qiE 'no space left|disk quota' "$log"; then
        fail "the disk is full; .venv needs about 7 GB, and pip as much again in TMPDIR= while it installs"
    elif grep -qiE 'name resolution|connection|timed out|network is unreachable|getaddrinfo|proxy' "$log"; then
        fail "cannot reach the package index; check the network or the proxy and repeat the command"
    fi
    fail "pip failed; see its last lines above, or the whole log in $log"
fi
rm -f .venv/status
touch "$stamp"
echo "set-up: done"
