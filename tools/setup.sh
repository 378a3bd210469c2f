#!/usr/bin/env bash
# Makes .venv from requirements.txt (exact versions, hashes checked) and installs this checkout into it.
# Needs python3.11 and the package registry. A no-op when nothing that it reads has changed; safe to run twice,
# at once with itself, and after having been killed half-way.
set -euo pipefail

UV_VERSION=0.13.9
cd "$(dirname "${BASH_SOURCE[0]}")/.."
home=$(pwd -P)
stamp=.venv/.edgeloop-setup

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# The folder belongs in it: scripts in a .venv name their interpreter by its full path, so a moved one is broken.
wanted=$( (printf '%s\n' "$home"; cat requirements.txt pyproject.toml tools/setup.sh) | sha256sum | cut -d' ' -f1)
is_current() { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null; }

is_current && exit 0

# `make demo` and `make test` started at once would otherwise build the same folder together.
if command -v flock >/dev/null; then
  exec 9>.venv.lock
  flock 9
  is_current && exit 0
fi

is_311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

find_python() {
  local name
  for name in ${PYTHON:-python3.11 python3 python}; do
    if command -v "$name" >/dev/null && is_311 "$name"; then command -v "$name"; return; fi
  done
  return 1
}

python=$(find_python) || fail "found no Python 3.11. On Debian 12: apt-get install python3.11 python3.11-venv (as root)." \
  "Elsewhere: install Python 3.11 and run 'make setup PYTHON=/path/to/python3.11'."

# Debian keeps ensurepip in a package of its own; without it `python -m venv` leaves a folder without pip.
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "$python cannot make environments; installing Debian's python3.11-venv"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3.11-venv >&2
  else
    fail "$python cannot make environments (no ensurepip). As root: apt-get install python3.11-venv. Then again: make setup"
  fi
fi

# Left over from a killed set-up, another Python or another place.
if [ -e .venv ] && { ! is_311 .venv/bin/python || ! grep -qF "$home/.venv" .venv/bin/activate 2>/dev/null; }; then
  say "the .venv that is here does not work in this place; making it anew"
  rm -rf .venv
fi
if [ ! -d .venv ]; then
  say "making .venv with $python"
  "$python" -m venv .venv
fi
rm -f "$stamp"

if [ "$(.venv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" != "$UV_VERSION" ]; then
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
fi

# A mirror behind a company's own certificate is known to the system's store only.
if [ -s /etc/ssl/certs/ca-certificates.crt ]; then export UV_SYSTEM_CERTS=true; fi

say "installing what requirements.txt names (some 270 packages; a minute or two the first time)"
export VIRTUAL_ENV="$home/.venv"
.venv/bin/uv pip install --quiet --require-hashes -r requirements.txt
.venv/bin/uv pip install --quiet --no-deps -e .
printf '%s\n' "$wanted" >"$stamp"
say "done: .venv is up to date"
