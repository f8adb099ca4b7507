#!/bin/sh
# Everything a fresh machine needs, and nothing twice: system libraries (Debian), .venv, packages.
# `set_up.sh libraries` stops after the system libraries, which need root; the rest does not.
set -eu
cd "$(dirname "$0")/.."

# Qt's xcb platform, Mesa's software OpenGL, and a virtual screen for machines without one.
LIBRARIES="xvfb libgl1-mesa-dri libegl1 libgl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0
  libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libdbus-1-3 libfontconfig1"

say() { printf '%s\n' "$*" >&2; }

apt_install() {
  DEBIAN_FRONTEND=noninteractive
  export DEBIAN_FRONTEND
  apt-get update -qq </dev/null
  apt-get install -y -qq --no-install-recommends "$@" </dev/null
}

missing_libraries() {
  for library in $LIBRARIES; do
    # 24.04 and trixie renamed some packages to <name>t64; either will do.
    dpkg -s "$library" >/dev/null 2>&1 || dpkg -s "${library}t64" >/dev/null 2>&1 || printf '%s ' "$library"
  done
}

install_libraries() {
  command -v dpkg >/dev/null 2>&1 || return 0
  missing=$(missing_libraries)
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" -eq 0 ]; then
    say "Installing system libraries: $missing"
    # shellcheck disable=SC2086
    apt_install $missing
  else
    say "The window may not open until these are installed: sudo apt-get install $missing"
  fi
}

find_python() {
  for name in python3.11 python3.12 python3.13 python3.14 python3; do
    if "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s' "$name"
      return 0
    fi
  done
  return 1
}

make_environment() {
  if ! .venv/bin/python -c '' 2>/dev/null; then
    if ! python=$(find_python) && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
      say "Installing Python: python3 python3-venv"
      apt_install python3 python3-venv
    fi
    if ! python=$(find_python); then
      say "Python 3.11 or newer with its venv module was not found. Install it (Debian: apt-get install" \
        "python3 python3-venv; others: https://www.python.org/downloads) and run this again."
      exit 2
    fi
    "$python" -m venv .venv
  fi
  .venv/bin/python -m pip install --quiet "pip>=25.1"
}

# On Linux the torch of PyPI brings gigabytes of CUDA; without an NVIDIA GPU the CPU build is what is wanted.
# First from where this machine's pip is configured to look, then from PyTorch's own index, then PyPI's after all.
install_torch() {
  version=$(sed -n 's/^torch==//p' constraints.txt)
  .venv/bin/python -c "
import importlib.metadata as m, sys
sys.exit(m.version('torch').split('+')[0] != '$version')" 2>/dev/null && return 0
  if [ "$(uname -s)" = Linux ] && ! nvidia-smi -L >/dev/null 2>&1; then
    pip_install --no-deps "torch==$version+cpu" 2>/dev/null && return 0
    pip_install --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==$version" && return 0
    say "No CPU build of torch $version was found; installing the one of PyPI, which is large."
  fi
  pip_install --no-deps "torch==$version"
}

pip_install() { .venv/bin/python -m pip install --quiet --no-input --constraint constraints.txt "$@"; }

install_libraries
if [ "${1:-}" = libraries ]; then
  exit 0
fi
make_environment
say "Installing packages into .venv (minutes the first time)"
install_torch
pip_install --editable '.[notebook]' --group dev --group docs
pip_install --editable plugins/segexplorer-levit-unet
say "Ready."
