#!/bin/sh
# Creates .venv and installs the project with the exact versions of requirements.lock, each file of
# which is compared with its checksum there. The Makefile calls it, unless its stamp file is newer
# than pyproject.toml and the lock.
#   PYTHON=python3.12 scripts/setup.sh     chooses the interpreter
#   CPU=1                                  PyTorch's CPU build, on Linux; elsewhere there is no other
#   TORCH_INDEX=URL                        index with that build; default: PyTorch's own
#   VENV=DIR                               another folder than .venv
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

venv=${VENV:-.venv}
stamp=$venv/.installed
log=$venv/setup.log
torch_index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
build=lock
[ -n "${CPU:-}" ] && [ "$(uname -s)" = Linux ] && build=cpu
size="7 GB, most of it PyTorch's CUDA libraries"
[ $build = lock ] || size="2 GB, with PyTorch's CPU build"
echo "set-up: $venv with $("$PYTHON" --version 2>&1) (once; about $size)"
version() { "$1" -c 'import sys; print(sys.version_info[:2])' 2>/dev/null; }
[ "$(version "$venv/bin/python")" = "$(version "$PYTHON")" ] || "$PYTHON" -m venv --clear "$venv" ||
    fail "cannot create the virtual environment; on Debian: apt-get install python3-venv"

pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }

# The lines of the lock, without those of packages that this awk pattern names: a package's first
# line begins with its name, its others with blanks.
lock_without() { awk -v left_out="$1" '/^[a-z]/ { out = $0 ~ left_out } !out' requirements.lock; }

# The first package of the lock, asked for with little patience: an index or a proxy that does not
# answer ends set-up in seconds, and not after the many retries that a long download deserves.
ask_index() {
    sed '/[^\\]$/q' requirements.lock >"$venv/first.txt"
    pip --retries 1 --timeout 10 download --quiet --no-deps --require-hashes \
        --dest "$venv/first" -r "$venv/first.txt"
}

# The lock has no checksums of CPU builds: their versions are those of the lock.
install_cpu() {
    wanted=$(sed -nE 's/^(torch|torchvision)(==[0-9.]+) .*/\1\2+cpu/p' requirements.lock)
    # one word for each package
    # shellcheck disable=SC2086
    pip --retries 1 install --no-deps --extra-index-url "$torch_index" $wanted || return
    lock_without '^(torch|torchvision|triton|cuda-[a-z]+|nvidia-(cu|nc|nv)[a-z0-9-]*)==' \
        >"$venv/cpu.txt"
    pip install --no-deps --require-hashes -r "$venv/cpu.txt"
}

install_lock() { pip install --require-hashes -r requirements.lock; }

# The project itself has no checksum, and is built with the setuptools of the lock.
install_project() { pip install --no-deps --no-build-isolation --editable .; }

# /bin/sh has no pipefail, so a file carries the exit status of pip past tee.
{ { ask_index && "install_$build" && install_project; }
  echo $? >"$venv/status"; } 2>&1 |
    tee "$log" | grep --line-buffered -vE "^(Requirement already satisfied|Ignoring) "
rm -rf "$venv/first" "$venv/first.txt" "$venv/cpu.txt"

proxies() {
    for name in https_proxy HTTPS_PROXY all_proxy ALL_PROXY PIP_PROXY; do
        eval "[ -z \"\${$name:-}\" ]" || printf ', and the proxy that %s names' "$name"
    done
}

if [ "$(cat "$venv/status" 2>/dev/null)" != 0 ]; then
    if grep -qi 'do not match the hashes' "$log"; then
        fail "a package differs from the one of requirements.lock: the index or a cache was altered, or it offers its own build; see $log"
    elif grep -qiE 'no space left|disk quota' "$log"; then
        fail "the disk is full; $venv needs about ${size%%,*}, and pip as much again in TMPDIR= while it installs"
    elif grep -q 'No matching distribution found for torch.*+cpu' "$log"; then
        fail "no index offers this version of PyTorch's CPU build: $torch_index was asked; TORCH_INDEX=URL names another one, and without CPU=1 the CUDA build is installed, which needs no GPU"
    elif grep -qiE 'name resolution|connection|timed out|network is unreachable|getaddrinfo|proxy|from versions: none' "$log"; then
        fail "cannot reach the package index: check the network$(proxies), and repeat the command"
    fi
    fail "pip failed; see its last lines above, or the whole log in $log"
fi
rm -f "$venv/status"
touch "$stamp"
echo "set-up: done"
