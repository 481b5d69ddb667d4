// Separable convolution: rows into int16 with seven fractional bits, then columns back into bytes.
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int parts = 4;
constexpr size_t block = parts * lanes;  // pixels that are summed at a time, in registers
constexpr int fraction_bits = 7;
using Sums = Vector<int32_t, lanes>;
using Bytes = Vector<uint8_t, lanes>;
using Words = Vector<int16_t, lanes>;

// Mirrors an index into 0..size-1 without repeating the border (numpy's and torch's 'reflect'), however far out.
int reflect(int index, int size) {
    if (size == 1) return 0;
    const int period = 2 * (size - 1);
    index = index < 0 ? -index : index;
    index %= period;
    return index < size ? index : period - index;
}

void blur_row(const uint8_t* padded, const int32_t* weights, int kernel_size, size_t width, int16_t* out) {
    constexpr int shift = blur_weight_bits - fraction_bits;
    for (size_t x = 0; x < width; x += block) {
        Sums sums[parts];
        for (Sums& sum : sums) sum = Sums{} + (1 << (shift - 1));
        for (int k = 0; k < kernel_size; ++k) {
            const int32_t weight = weights[k];
            for (int part = 0; part < parts; ++part)
                sums[part] += widen<lanes>(load<Bytes>(padded + x + k + part * lanes)) * weight;
        }
        for (int part = 0; part < parts; ++part)
            store(out + x + part * lanes, __builtin_convertvector(sums[part] >> shift, Words));
    }
}

void blur_column_block(const int16_t* rows, size_t row_pixels, int y, int height, const int32_t* weights,
                       int kernel_size, uint8_t* out) {
    constexpr int shift = blur_weight_bits + fraction_bits;
    Sums sums[parts];
    for (Sums& sum : sums) sum = Sums{} + (1 << (shift - 1));
    for (int k = 0; k < kernel_size; ++k) {
        const int32_t weight = weights[k];
        const int16_t* in = rows + static_cast<size_t>(reflect(y + k - kernel_size / 2, height)) * row_pixels;
        for (int part = 0; part < parts; ++part)
            sums[part] += __builtin_convertvector(load<Words>(in + part * lanes), Sums) * weight;
    }
    for (int part = 0; part < parts; ++part) store(out + part * lanes, narrow<lanes>(sums[part] >> shift));
}

}  // namespace

void blur(const Planar& view, const int32_t* weights, int kernel_size, uint8_t* scratch) {
    const int height = view.height, width = view.width, radius = kernel_size / 2;
    const size_t row_pixels = round_up(static_cast<size_t>(width), block);
    uint8_t* const padded = scratch;
    const size_t padded_bytes = round_up(static_cast<size_t>(width) + static_cast<size_t>(kernel_size) + block, block);
    int16_t* const rows = reinterpret_cast<int16_t*>(scratch + padded_bytes);

    for (int channel = 0; channel < 3; ++channel) {
        uint8_t* const plane = view.plane(channel);
        for (int y = 0; y < height; ++y) {
            const uint8_t* const row = plane + static_cast<size_t>(y) * static_cast<size_t>(width);
            for (int x = 0; x < radius; ++x) {
                padded[x] = row[reflect(x - radius, width)];
                padded[radius + width + x] = row[reflect(width + x, width)];
            }
            __builtin_memcpy(padded + radius, row, static_cast<size_t>(width));
            blur_row(padded, weights, kernel_size, row_pixels, rows + static_cast<size_t>(y) * row_pixels);
        }
        for (int y = 0; y < height; ++y) {
            uint8_t* const row = plane + static_cast<size_t>(y) * static_cast<size_t>(width);
            for (size_t x = 0; x < static_cast<size_t>(width); x += block) {
                uint8_t blurred[block];
                blur_column_block(rows + x, row_pixels, y, height, weights, kernel_size, blurred);
                const size_t left = static_cast<size_t>(width) - x;
                __builtin_memcpy(row + x, blurred, left < block ? left : block);
            }
        }
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
