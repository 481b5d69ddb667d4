#!/bin/sh
# Makes the development environment: system packages where they are missing and may be installed, a virtual
# environment, the pinned packages, and this project, compiled in place.
set -eu

say() { printf '\033[1m%s\033[0m\n' "$*"; }
stop() { printf 'setup: %s\n' "$*" >&2; exit 1; }

missing=""
need() { case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac; }
command -v "$PYTHON" >/dev/null || need python3
command -v c++ >/dev/null || need g++
command -v make >/dev/null || need make
if command -v "$PYTHON" >/dev/null; then
    "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null || need python3-venv
    "$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        need python3-dev
fi
if command -v c++ >/dev/null; then
    printf '#include <cstdio>\n#include <jpeglib.h>\n' | c++ -E -x c++ - >/dev/null 2>&1 || need libjpeg-dev
fi
if [ -n "$missing" ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        say "Installing system packages:$missing"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >/dev/null
    else
        stop "these packages are missing and cannot be installed from here:$missing
On Debian or Ubuntu run:  sudo apt-get install$missing   and then make again."
    fi
fi
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    stop "Python 3.10 or newer is needed, got $("$PYTHON" --version); name another with: make PYTHON=python3.11 ..."

[ -x "$VENV/bin/python" ] || { say "Making the virtual environment $VENV"; "$PYTHON" -m venv "$VENV"; }
say "Installing the pinned packages (torch is the large one)"
"$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-deps -r requirements-dev.lock
say "Compiling ffcv"
"$VENV/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
