#!/bin/sh
# Builds the core and libjpeg-turbo with the address and undefined-behaviour sanitizers, apart from the installed ones,
# and fuzzes them: sh scripts/fuzz.sh SECONDS
#
# libjpeg-turbo's source is FFCV_LIBJPEG_SOURCE (an archive or a folder, such as what `apt-get source libjpeg-turbo`
# fetches), else the pinned release. Where that cannot be fetched, the system's library is used as it is, and the
# sanitizers see nothing of what happens inside it.
set -eu
SECONDS_TO_RUN="${1:-600}"
PATH="$(pwd)/.venv/bin:$PATH"
PYTHON="$(pwd)/.venv/bin/python"
BUILD="$(pwd)/build/fuzz"
FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined"

say() { printf 'fuzz: %s\n' "$*"; }
ARCHIVE="$(pwd)/build/libjpeg-turbo.tar.gz"
if [ -n "${FFCV_LIBJPEG_SOURCE:-}" ]; then
    [ -e "$FFCV_LIBJPEG_SOURCE" ] || { say "FFCV_LIBJPEG_SOURCE=$FFCV_LIBJPEG_SOURCE does not exist" >&2; exit 1; }
    SOURCE="$(realpath "$FFCV_LIBJPEG_SOURCE")"
elif cmake -DTO="$ARCHIVE" -P cmake/libjpeg_turbo_release.cmake >/dev/null 2>&1; then
    SOURCE="$ARCHIVE"
else
    SOURCE=""
fi

mkdir -p "$BUILD"
set -- -S . -B "$BUILD" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPython_EXECUTABLE="$PYTHON" \
    -DCMAKE_CXX_FLAGS="$FLAGS"
if [ -n "$SOURCE" ]; then
    say "libjpeg-turbo with the sanitizers, from $SOURCE"
    # Without its assembler code, which no sanitizer sees into. The policy is for releases older than CMake 4.
    set -- "$@" -DFFCV_FETCH_LIBJPEG=ON -DFFCV_LIBJPEG_URL="$SOURCE" -DFFCV_LIBJPEG_SHA256= \
        -DFFCV_LIBJPEG_ARGS="-DWITH_SIMD=OFF;-DCMAKE_POLICY_VERSION_MINIMUM=3.5;-DCMAKE_C_FLAGS=$FLAGS -g"
else
    say "libjpeg-turbo cannot be fetched, and FFCV_LIBJPEG_SOURCE is not set: the system's, without the sanitizers"
    set -- "$@" -DFFCV_FETCH_LIBJPEG=OFF
fi
{ cmake "$@" && cmake --build "$BUILD"; } >"$BUILD.log" 2>&1 || { tail -50 "$BUILD.log"; exit 1; }

# The package as it is in src, with this core.
rm -rf "$BUILD/package" && mkdir -p "$BUILD/package" && cp -r src/ffcv "$BUILD/package/ffcv"
cp "$BUILD"/_core*.so "$BUILD/package/ffcv/"

LD_PRELOAD="$(c++ -print-file-name=libasan.so) $(c++ -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
    FFCV_FUZZ_PACKAGE="$BUILD/package" "$PYTHON" tests/fuzz/fuzz.py --seconds "$SECONDS_TO_RUN"
