// Separable convolution with a symmetric kernel: rows into int16 with six fractional bits, then columns back into
// bytes.
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int parts = 2;
constexpr size_t block = parts * 2 * lanes;  // pixels that are summed at a time, in registers
constexpr int fraction_bits = 6;             // two such numbers still add up within 16 bits

struct Sums {
    Ints low[parts], high[parts];  // as interleave() leaves them
};

// Mirrors an index into 0..size-1 without repeating the border (numpy's and torch's 'reflect'), however far out.
int reflect(int index, int size) {
    if (size == 1) return 0;
    const int period = 2 * (size - 1);
    index = index < 0 ? -index : index;
    index %= period;
    return index < size ? index : period - index;
}

// Sums over the taps of `block` pixels; tap k reads at taps + k * distance. Taps of equal weight are added first, and
// two such pairs are multiplied by their weights at once.
Sums convolve(const int16_t* taps, size_t distance, const int16_t* weights, int kernel_size, int32_t start) {
    const int radius = kernel_size / 2;
    const int16_t* first = taps;
    const int16_t* last = taps + static_cast<size_t>(kernel_size - 1) * distance;
    Sums sums;
    for (int part = 0; part < parts; ++part) sums.low[part] = sums.high[part] = Ints{} + start;
    const auto add = [&](int part, Words a, Words b, Words pair_of_weights) {
        sums.low[part] = add_pair_products(sums.low[part], interleave_low(a, b), pair_of_weights);
        sums.high[part] = add_pair_products(sums.high[part], interleave_high(a, b), pair_of_weights);
    };
    const auto pair = [&](int part) {
        return load<Words>(first + part * 2 * lanes) + load<Words>(last + part * 2 * lanes);
    };
    const auto pair_of = [](int16_t a, int16_t b) {
        return (Words)(Ints{} + static_cast<int32_t>(static_cast<uint16_t>(a) | static_cast<uint32_t>(b) << 16));
    };
    int k = 0;
    for (; k + 1 < radius; k += 2, first += 2 * distance, last -= 2 * distance) {
        const Words pair_of_weights = pair_of(weights[k], weights[k + 1]);
        for (int part = 0; part < parts; ++part) {
            const Words next =
                load<Words>(first + distance + part * 2 * lanes) + load<Words>(last - distance + part * 2 * lanes);
            add(part, pair(part), next, pair_of_weights);
        }
    }
    const bool odd = k < radius;  // a pair is left beside the centre
    const int16_t* const centre = odd ? first + distance : first;
    const Words pair_of_weights = pair_of(odd ? weights[k] : 0, weights[radius]);
    for (int part = 0; part < parts; ++part)
        add(part, pair(part), load<Words>(centre + part * 2 * lanes), pair_of_weights);
    return sums;
}

void blur_row(const int16_t* padded, const int16_t* weights, int kernel_size, size_t width, int16_t* out) {
    constexpr int shift = blur_weight_bits - fraction_bits;
    for (size_t x = 0; x < width; x += block) {
        const Sums sums = convolve(padded + x, 1, weights, kernel_size, 1 << (shift - 1));
        for (int part = 0; part < parts; ++part)
            store(out + x + part * 2 * lanes, join(sums.low[part] >> shift, sums.high[part] >> shift));
    }
}

void blur_columns(const int16_t* rows, size_t row_pixels, const int16_t* weights, int kernel_size, size_t width,
                  uint8_t* out) {
    constexpr int shift = blur_weight_bits + fraction_bits;
    for (size_t x = 0; x < width; x += block) {
        const Sums sums = convolve(rows + x, row_pixels, weights, kernel_size, 1 << (shift - 1));
        uint8_t blurred[block];
        for (int part = 0; part < parts; ++part)
            store(blurred + part * 2 * lanes, narrow(join(sums.low[part] >> shift, sums.high[part] >> shift)));
        if (width - x >= block)
            __builtin_memcpy(out + x, blurred, block);
        else
            __builtin_memcpy(out + x, blurred, width - x);
    }
}

}  // namespace

void blur(const Planar& view, const int16_t* weights, int kernel_size, uint8_t* scratch) {
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
