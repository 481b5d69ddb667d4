// Separable resampling in fixed point, horizontally and then vertically with eight bits between, as Pillow does.
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int32_t half = 1 << (weight_bits - 1);
using Sums = Vector<int32_t, lanes>;
using Bytes = Vector<uint8_t, lanes>;
using PixelSum = Vector<int32_t, 4>;

// The weights are not negative and sum to one, so sums never leave 0..255.

// A row of interleaved RGB -> four 32-bit numbers a pixel; reads and writes up to three pixels beyond the row's end.
void widen_row(const uint8_t* row, int width, int32_t* out) {
    for (int x = 0; x < width; x += 4, row += 12, out += 16) {
        const Vector<uint8_t, 16> rgb = load<Vector<uint8_t, 16>>(row);
        const Vector<uint8_t, 16> rgbx =
            __builtin_shufflevector(rgb, rgb, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
        store(out, widen<16>(rgbx));
    }
}

// One widened row -> one row of four-byte pixels.
void horizontal_pass(const int32_t* row, const Taps& taps, int out_width, bool flip, int32_t* sums, uint8_t* out) {
    const int32_t* weights = taps.weights;
    int32_t* target = flip ? sums + 4 * (out_width - 1) : sums;
    const ptrdiff_t step = flip ? -4 : 4;
    for (int x = 0; x < out_width; ++x, weights += taps.taps, target += step) {
        const int32_t* pixel = row + static_cast<size_t>(taps.first[x]) * 4;
        PixelSum sum = {half, half, half, half};
        for (int k = 0; k < taps.taps; ++k, pixel += 4) sum += load<PixelSum>(pixel) * weights[k];
        store(target, sum);
    }
    for (int i = 0; i < 4 * out_width; ++i) out[i] = static_cast<uint8_t>(sums[i] >> weight_bits);
}

void vertical_pass(const uint8_t* rows, size_t row_bytes, const int32_t* weights, int taps, uint8_t* out) {
    for (size_t x = 0; x < row_bytes; x += 4 * lanes) {
        Sums sums[4];
        for (Sums& sum : sums) sum = Sums{} + half;
        const uint8_t* in = rows + x;
        for (int k = 0; k < taps; ++k, in += row_bytes) {
            const int32_t weight = weights[k];
            for (int part = 0; part < 4; ++part) sums[part] += widen<lanes>(load<Bytes>(in + part * lanes)) * weight;
        }
        for (int part = 0; part < 4; ++part) store(out + x + part * lanes, narrow<lanes>(sums[part] >> weight_bits));
    }
}

}  // namespace

void resample(const uint8_t* source, size_t stride, int height, int width, const Taps& horizontal, const Taps& vertical,
              bool flip, uint8_t* scratch, const Planar& out) {
    const size_t row_bytes = round_up(static_cast<size_t>(out.width) * 4, 64);
    const size_t padded_width = round_up(static_cast<size_t>(width) + 2, 4);
    uint8_t* const padded_row = scratch;
    int32_t* const wide_row = reinterpret_cast<int32_t*>(padded_row + round_up(3 * padded_width + 4, 64));
    int32_t* const sums = wide_row + 4 * padded_width;
    uint8_t* const rows = reinterpret_cast<uint8_t*>(sums) + 4 * row_bytes;
    uint8_t* const blended_row = rows + row_bytes * static_cast<size_t>(height);

    for (int y = 0; y < height; ++y) {
        __builtin_memcpy(padded_row, source + static_cast<size_t>(y) * stride, static_cast<size_t>(width) * 3);
        widen_row(padded_row, width, wide_row);
        horizontal_pass(wide_row, horizontal, out.width, flip, sums, rows + static_cast<size_t>(y) * row_bytes);
    }
    for (int y = 0; y < out.height; ++y) {
        vertical_pass(rows + static_cast<size_t>(vertical.first[y]) * row_bytes, row_bytes,
                      vertical.weights + static_cast<size_t>(y) * static_cast<size_t>(vertical.taps), vertical.taps,
                      blended_row);
        const size_t offset = static_cast<size_t>(y) * static_cast<size_t>(out.width);
        for (int channel = 0; channel < 3; ++channel) {
            uint8_t* const target = out.plane(channel) + offset;
            for (int x = 0; x < out.width; ++x) target[x] = blended_row[4 * x + channel];
        }
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
