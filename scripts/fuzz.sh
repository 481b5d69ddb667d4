#!/bin/sh
# Builds the core with the address and undefined-behaviour sanitizers, apart from the installed one, and fuzzes it.
set -eu
SECONDS_TO_RUN="${1:-600}"
PYTHON="$(pwd)/.venv/bin/python"
BUILD="$(pwd)/build/fuzz"

PATH="$(pwd)/.venv/bin:$PATH" cmake -S . -B "$BUILD" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DPython_EXECUTABLE="$PYTHON" -DCMAKE_CXX_FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined" \
    >"$BUILD.log" 2>&1 || { cat "$BUILD.log"; exit 1; }
PATH="$(pwd)/.venv/bin:$PATH" cmake --build "$BUILD" >>"$BUILD.log" 2>&1 || { tail -50 "$BUILD.log"; exit 1; }

# The package as it is in src, with this core.
rm -rf "$BUILD/package" && mkdir -p "$BUILD/package" && cp -r src/ffcv "$BUILD/package/ffcv"
cp "$BUILD"/_core*.so "$BUILD/package/ffcv/"

LD_PRELOAD="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
    FFCV_FUZZ_PACKAGE="$BUILD/package" "$PYTHON" tests/fuzz/fuzz.py --seconds "$SECONDS_TO_RUN"
