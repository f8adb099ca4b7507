#!/bin/sh
# Studies on schedulers: SLURM with two nodes and Ray with two nodes, both on this computer, both ended with the tests.
# SLURM is Debian's, unpacked and not installed; its daemons need root, listen on the loopback interface alone, and are
# not started beside a SLURM that is there. Ray is installed into an environment of its own that borrows the packages
# of .venv. Where one of them cannot be had, its tests are skipped, and it is said why.
set -eu
cd "$(dirname "$0")/.."
PLACE=$PWD/build/cluster
PACKAGES="slurmctld slurmd slurm-client slurm-wlm-basic-plugins libhwloc15"
mkdir -p "$PLACE"

if ! test -e "$PLACE/venv/.installed" || test pyproject.toml -nt "$PLACE/venv/.installed"; then
  .venv/bin/python -m venv "$PLACE/venv"
  packages=$("$PLACE/venv/bin/python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
  .venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" >"$packages/segexplorer_environment.pth"
  echo "Installing Ray into $PLACE (minutes the first time)" >&2
  "$PLACE/venv/bin/python" -m pip install --quiet --no-input --constraint constraints.txt "ray>=2.40" "submitit>=1.5.2"
  touch "$PLACE/venv/.installed"
fi
if "$PLACE/venv/bin/python" -c "import ray" 2>/dev/null; then
  export SEGEXPLORER_RAY=1
else
  echo "Ray cannot be imported here: its tests are skipped." >&2
fi

if command -v slurmctld >/dev/null 2>&1 || test -d /etc/slurm; then
  echo "There is a SLURM on this computer: no second one is started beside it, its tests are skipped." >&2
elif test "$(id -u)" != 0 || ! unshare --uts --pid --fork --mount-proc true 2>/dev/null; then
  echo "SLURM's daemons need root and namespaces: its tests are skipped." >&2
elif ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg >/dev/null 2>&1; then
  echo "SLURM is taken from Debian's packages, and this is another system: its tests are skipped." >&2
else
  if ! test -e "$PLACE/slurm/.unpacked"; then
    rm -rf "$PLACE/slurm" "$PLACE/debs"
    mkdir -p "$PLACE/slurm" "$PLACE/debs"
    # shellcheck disable=SC2086
    (cd "$PLACE/debs" && apt-get download -q $PACKAGES) || { apt-get update -q && (cd "$PLACE/debs" && apt-get download -q $PACKAGES); }
    for package in "$PLACE"/debs/*.deb; do dpkg -x "$package" "$PLACE/slurm"; done
    touch "$PLACE/slurm/.unpacked"
  fi
  export SEGEXPLORER_SLURM="$PLACE/slurm"
fi

HOME=$(mktemp -d) # Ray writes a token there
export HOME RAY_USAGE_STATS_ENABLED=0
trap 'rm -rf "$HOME"' EXIT
PYTHONPATH=$PWD "$PLACE/venv/bin/python" -m pytest -p no:cacheprovider --timeout 3000 "${TESTS:-tests/cluster}" "$@"
