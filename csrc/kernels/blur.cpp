// Separable convolution with a symmetric kernel: rows into int16 with six fractional bits, then columns back into
// bytes.
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int parts = 4;
constexpr size_t block = parts * lanes;  // pixels that are summed at a time, in registers
constexpr int fraction_bits = 6;         // two such numbers still add up within 16 bits
using Sums = Ints;
using Words = Vector<int16_t, lanes>;

// Mirrors an index into 0..size-1 without repeating the border (numpy's and torch's 'reflect'), however far out.
int reflect(int index, int size) {
    if (size == 1) return 0;
    const int period = 2 * (size - 1);
    index = index < 0 ? -index : index;
    index %= period;
    return index < size ? index : period - index;
}

// Sums over the taps of `block` pixels; tap k reads at taps + k * distance. Taps of equal weight are added first.
void convolve(const int16_t* taps, size_t distance, const int32_t* weights, int kernel_size, int32_t start,
              Sums* sums) {
    const int radius = kernel_size / 2;
    const int16_t* first = taps;
    const int16_t* last = taps + static_cast<size_t>(kernel_size - 1) * distance;
    for (int part = 0; part < parts; ++part) sums[part] = Sums{} + start;
    for (int k = 0; k < radius; ++k, first += distance, last -= distance) {
        for (int part = 0; part < parts; ++part) {
            const Words pair = load<Words>(first + part * lanes) + load<Words>(last + part * lanes);
            sums[part] += __builtin_convertvector(pair, Sums) * weights[k];
        }
    }
    for (int part = 0; part < parts; ++part)
        sums[part] += __builtin_convertvector(load<Words>(first + part * lanes), Sums) * weights[radius];
}

void blur_row(const int16_t* padded, const int32_t* weights, int kernel_size, size_t width, int16_t* out) {
    constexpr int shift = blur_weight_bits - fraction_bits;
    for (size_t x = 0; x < width; x += block) {
        Sums sums[parts];
        convolve(padded + x, 1, weights, kernel_size, 1 << (shift - 1), sums);
        for (int part = 0; part < parts; ++part)
            store(out + x + part * lanes, __builtin_convertvector(sums[part] >> shift, Words));
    }
}

void blur_columns(const int16_t* rows, size_t row_pixels, const int32_t* weights, int kernel_size, size_t width,
                  uint8_t* out) {
    constexpr int shift = blur_weight_bits + fraction_bits;
    for (size_t x = 0; x < width; x += block) {
        Sums sums[parts];
        convolve(rows + x, row_pixels, weights, kernel_size, 1 << (shift - 1), sums);
        uint8_t blurred[block];
        for (int part = 0; part < parts; ++part) store(blurred + part * lanes, narrow(sums[part] >> shift));
        if (width - x >= block)
            __builtin_memcpy(out + x, blurred, block);
        else
            __builtin_memcpy(out + x, blurred, width - x);
    }
}

}  // namespace

void blur(const Planar& view, const int32_t* weights, int kernel_size, uint8_t* scratch) {
    const int height = view.height, width = view.width, radius = kernel_size / 2;
    const size_t row_pixels = round_up(static_cast<size_t>(width), 64);
    int16_t* const padded = reinterpret_cast<int16_t*>(scratch);
    int16_t* const above = padded + round_up(static_cast<size_t>(width + kernel_size) + 64, 64);
    int16_t* const rows = above + static_cast<size_t>(radius) * row_pixels;
    const auto row_at = [&](int y) { return rows + static_cast<ptrdiff_t>(y) * static_cast<ptrdiff_t>(row_pixels); };

    for (int channel = 0; channel < 3; ++channel) {
        uint8_t* const plane = view.plane(channel);
        for (int y = 0; y < height; ++y) {
            const uint8_t* const row = plane + static_cast<size_t>(y) * static_cast<size_t>(width);
            for (int x = 0; x < radius; ++x) {
                padded[x] = row[reflect(x - radius, width)];
                padded[radius + width + x] = row[reflect(width + x, width)];
            }
            for (int x = 0; x < width; ++x) padded[radius + x] = row[x];
            blur_row(padded, weights, kernel_size, row_pixels, row_at(y));
        }
        for (int y = 0; y < radius; ++y) {
            __builtin_memcpy(row_at(y - radius), row_at(reflect(y - radius, height)), row_pixels * sizeof(int16_t));
            __builtin_memcpy(row_at(height + y), row_at(reflect(height + y, height)), row_pixels * sizeof(int16_t));
        }
        for (int y = 0; y < height; ++y)
            blur_columns(row_at(y - radius), row_pixels, weights, kernel_size, static_cast<size_t>(width),
                         plane + static_cast<size_t>(y) * static_cast<size_t>(width));
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
