// Separable resampling in fixed point, horizontally and then vertically with eight bits between, as Pillow does.
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int32_t half = 1 << (weight_bits - 1);
using Sums = Ints;

// Rows go through the horizontal pass together, as many as fill a register with pixels of four 32-bit numbers: a pixel
// of the group is [rows_together][4].
constexpr int rows_together = lanes / 4;

// A row of interleaved RGB -> its place in a group; reads and writes up to three pixels beyond the row's end.
void widen_row(const uint8_t* row, int width, int32_t* out) {
    for (int x = 0; x < width; x += 4, row += 12, out += 4 * lanes) {
        const Vector<uint8_t, 16> rgb = load<Vector<uint8_t, 16>>(row);
        const Vector<uint8_t, 16> rgbx =
            __builtin_shufflevector(rgb, rgb, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
        uint8_t b16[16]; store(b16, rgbx);
        for (int pixel = 0; pixel < 4; ++pixel) { int32_t w; __builtin_memcpy(&w, b16+4*pixel,4); store(out + pixel * lanes, (Vector<int32_t,4>)_mm_cvtepu8_epi32(_mm_cvtsi32_si128(w)));}
    }
}

// A widened group -> rows of four-byte pixels; `count` taps, or as many as the table says where `count` is 0.
template <int count>
void horizontal_pass(const int32_t* group, const Taps& taps, int out_width, bool flip, uint8_t* out, size_t row_bytes) {
    const int number = count == 0 ? taps.taps : count;
    const int32_t* weights = taps.weights;
    const ptrdiff_t step = flip ? -4 : 4;
    out += flip ? 4 * (out_width - 1) : 0;
    for (int x = 0; x < out_width; ++x, weights += number, out += step) {
        const int32_t* const pixel = group + static_cast<size_t>(taps.first[x]) * lanes;
        Sums sum = Sums{} + half;
        for (int k = 0; k < number; ++k) sum += load<Sums>(pixel + k * lanes) * weights[k];
        const Bytes bytes = narrow_clamped(sum >> weight_bits);
        uint8_t pixels[lanes];
        store(pixels, bytes);
        for (int row = 0; row < rows_together; ++row)
            __builtin_memcpy(out + static_cast<size_t>(row) * row_bytes, pixels + 4 * row, 4);
    }
}

void vertical_pass(const uint8_t* rows, size_t row_bytes, const int32_t* weights, int taps, uint8_t* out) {
    for (size_t x = 0; x < row_bytes; x += 4 * lanes) {
        Sums sums[4];
        for (Sums& sum : sums) sum = Sums{} + half;
        const uint8_t* in = rows + x;
        for (int k = 0; k < taps; ++k, in += row_bytes) {
            const int32_t weight = weights[k];
            for (int part = 0; part < 4; ++part) sums[part] += widen(load<Bytes>(in + part * lanes)) * weight;
        }
        for (int part = 0; part < 4; ++part)
            store(out + x + part * lanes, narrow_clamped(sums[part] >> weight_bits));
    }
}

void extract_channel(const uint8_t* pixels, int channel, int width, uint8_t* out) {
    int x = 0;
    for (; x + lanes <= width; x += lanes)
        store(out + x, narrow(load<Sums>(pixels + 4 * x) >> (8 * channel) & 255));
    for (; x < width; ++x) out[x] = pixels[4 * x + channel];
}

}  // namespace

void resample(const uint8_t* source, size_t stride, int height, int width, const Taps& horizontal, const Taps& vertical,
              bool flip, uint8_t* scratch, const Planar& out) {
    const size_t row_bytes = round_up(static_cast<size_t>(out.width) * 4, 64);
    const size_t padded_width = round_up(static_cast<size_t>(width) + 2, 4);
    uint8_t* const padded_row = scratch;
    int32_t* const group = reinterpret_cast<int32_t*>(padded_row + round_up(3 * padded_width + 4, 64));
    uint8_t* const rows = reinterpret_cast<uint8_t*>(group + padded_width * lanes);
    uint8_t* const blended_row = rows + row_bytes * round_up(static_cast<size_t>(height), rows_together);

    constexpr decltype(&horizontal_pass<0>) by_count[] = {horizontal_pass<0>, horizontal_pass<1>, horizontal_pass<2>,
                                                          horizontal_pass<3>, horizontal_pass<4>, horizontal_pass<5>,
                                                          horizontal_pass<6>};
    const auto pass = by_count[horizontal.taps <= 6 ? horizontal.taps : 0];
    for (int y = 0; y < height; y += rows_together) {
        for (int row = 0; row < rows_together && y + row < height; ++row) {
            const uint8_t* const from = source + static_cast<size_t>(y + row) * stride;
            __builtin_memcpy(padded_row, from, static_cast<size_t>(width) * 3);
            widen_row(padded_row, width, group + 4 * row);
        }
        pass(group, horizontal, out.width, flip, rows + static_cast<size_t>(y) * row_bytes, row_bytes);
    }
    for (int y = 0; y < out.height; ++y) {
        vertical_pass(rows + static_cast<size_t>(vertical.first[y]) * row_bytes, row_bytes,
                      vertical.weights + static_cast<size_t>(y) * static_cast<size_t>(vertical.taps), vertical.taps,
                      blended_row);
        const size_t offset = static_cast<size_t>(y) * static_cast<size_t>(out.width);
        for (int channel = 0; channel < 3; ++channel)
            extract_channel(blended_row, channel, out.width, out.plane(channel) + offset);
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
