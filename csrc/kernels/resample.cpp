// Separable resampling in fixed point, horizontally and then vertically with eight bits between, as Pillow does.
#include "kernels/kernels.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

using Int4 = int32_t __attribute__((vector_size(16)));
using Byte4 = uint8_t __attribute__((vector_size(4)));
constexpr int32_t half = 1 << (weight_bits - 1);

uint8_t clamp_byte(int32_t value) {
    value = value < 0 ? 0 : value;
    return static_cast<uint8_t>(value > 255 ? 255 : value);
}

// One row of interleaved RGB -> one row of four-byte pixels; `row` may be read one byte beyond its last pixel.
void horizontal_pass(const uint8_t* row, const Taps& taps, int out_width, bool flip, uint8_t* out) {
    for (int x = 0; x < out_width; ++x) {
        const uint8_t* pixel = row + static_cast<size_t>(taps.first[x]) * 3;
        const int16_t* weights = taps.weights + static_cast<size_t>(x) * static_cast<size_t>(taps.taps);
        Int4 sum = {half, half, half, half};
        for (int k = 0; k < taps.taps; ++k, pixel += 3) {
            Byte4 bytes;
            __builtin_memcpy(&bytes, pixel, 4);
            sum += __builtin_convertvector(bytes, Int4) * int32_t{weights[k]};
        }
        sum >>= weight_bits;
        uint8_t* const target = out + static_cast<size_t>(flip ? out_width - 1 - x : x) * 4;
        for (int channel = 0; channel < 3; ++channel) target[channel] = clamp_byte(sum[channel]);
    }
}

void vertical_pass(const uint8_t* rows, size_t row_bytes, const int16_t* weights, int taps, uint8_t* out) {
    constexpr size_t block = 64;
    for (size_t x = 0; x < row_bytes; x += block) {
        int32_t sum[block];
        for (size_t j = 0; j < block; ++j) sum[j] = half;
        for (int k = 0; k < taps; ++k) {
            const uint8_t* in = rows + static_cast<size_t>(k) * row_bytes + x;
            const int32_t weight = weights[k];
            for (size_t j = 0; j < block; ++j) sum[j] += weight * in[j];
        }
        for (size_t j = 0; j < block; ++j) out[x + j] = clamp_byte(sum[j] >> weight_bits);
    }
}

}  // namespace

void resample(const uint8_t* source, size_t stride, int height, int width, const Taps& horizontal,
              const Taps& vertical, bool flip, uint8_t* scratch, const Planar& out) {
    const size_t row_bytes = round_up(static_cast<size_t>(out.width) * 4, 64);
    uint8_t* const padded_row = scratch;
    uint8_t* const rows = scratch + round_up(static_cast<size_t>(width) * 3 + 4, 64);
    uint8_t* const blended_row = rows + row_bytes * static_cast<size_t>(height);

    for (int y = 0; y < height; ++y) {
        __builtin_memcpy(padded_row, source + static_cast<size_t>(y) * stride, static_cast<size_t>(width) * 3);
        horizontal_pass(padded_row, horizontal, out.width, flip, rows + static_cast<size_t>(y) * row_bytes);
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
