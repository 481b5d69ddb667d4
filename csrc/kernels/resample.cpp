// Separable resampling in fixed point, horizontally and then vertically with eight bits between, as Pillow does.
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int32_t half = 1 << (weight_bits - 1);

// Rows go through the horizontal pass together, as many as fill a register with pixels of four numbers. A block is four
// pixels of these rows, four bytes each: first all rows of a pixel, or first all pixels of a row.
constexpr int rows_together = lanes / 4;
using Row = Vector<int32_t, 4>;  // four pixels

#if defined(__AVX512F__)
Ints block(const Row* parts) {
    using Half = Vector<int32_t, 8>;
    const Half low = __builtin_shufflevector(parts[0], parts[1], 0, 1, 2, 3, 4, 5, 6, 7);
    const Half high = __builtin_shufflevector(parts[2], parts[3], 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
Ints by_pixel(Ints by_row) {
    return __builtin_shufflevector(by_row, by_row, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
Ints by_row(Ints by_pixel) {
    return __builtin_shufflevector(by_pixel, by_pixel, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
#elif defined(__AVX2__)
Ints block(const Row* parts) { return __builtin_shufflevector(parts[0], parts[1], 0, 1, 2, 3, 4, 5, 6, 7); }
Ints by_pixel(Ints by_row) { return __builtin_shufflevector(by_row, by_row, 0, 4, 1, 5, 2, 6, 3, 7); }
Ints by_row(Ints by_pixel) { return __builtin_shufflevector(by_pixel, by_pixel, 0, 2, 4, 6, 1, 3, 5, 7); }
#else
Ints block(const Row* parts) { return parts[0]; }
Ints by_pixel(Ints by_row) { return by_row; }
Ints by_row(Ints by_pixel) { return by_pixel; }
#endif

// Rows of interleaved RGB -> pixels of all rows, four bytes each; reads and writes up to three pixels beyond the rows'
// end, and one byte more of pixels of three.
template <PixelSize size>
void gather_rows(const uint8_t* const* rows, int width, uint8_t* out) {
    for (size_t x = 0; x < static_cast<size_t>(width); x += 4, out += 4 * lanes) {
        Row parts[rows_together];
        for (int row = 0; row < rows_together; ++row) {
            const Vector<uint8_t, 16> rgb = load<Vector<uint8_t, 16>>(rows[row] + x * static_cast<size_t>(size));
            parts[row] = (Row)rgb;
            if (size == PixelSize::three)
                parts[row] = (Row)__builtin_shufflevector(rgb, rgb, 0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
        }
        store(out, by_pixel(block(parts)));
    }
}

// Gathered rows -> rows of four-byte pixels; `count` taps, or as many as the table says where `count` is 0.
template <int count>
void horizontal_pass(const uint8_t* gathered, const Taps& taps, int out_width, uint8_t* out, size_t row_bytes) {
    const int number = count == 0 ? taps.taps : count;
    const int32_t* weights = taps.weights;
    for (int x = 0; x < out_width; x += 4, out += 16) {
        uint8_t pixels[4 * lanes];
        for (int i = 0; i < 4; ++i, weights += number) {
            const uint8_t* const pixel = gathered + static_cast<size_t>(taps.first[x + i]) * lanes;
            Ints sum = Ints{} + half;
            for (int k = 0; k < number; ++k) sum += widen(load<Bytes>(pixel + k * lanes)) * weights[k];
            store(pixels + i * lanes, narrow_clamped(sum >> weight_bits));
        }
        Row parts[rows_together];
        for (int row = 0; row < rows_together; ++row) parts[row] = load<Row>(pixels + 16 * row);
        const Ints rows = by_row(block(parts));
        for (int row = 0; row < rows_together; ++row)
            __builtin_memcpy(out + static_cast<size_t>(row) * row_bytes,
                             reinterpret_cast<const char*>(&rows) + 16 * row, 16);
    }
}

void vertical_pass(const uint8_t* rows, size_t row_bytes, const int32_t* weights, int taps, uint8_t* out) {
    for (size_t x = 0; x < row_bytes; x += 4 * lanes) {
        Ints sums[4];
        for (Ints& sum : sums) sum = Ints{} + half;
        const uint8_t* in = rows + x;
        for (int k = 0; k < taps; ++k, in += row_bytes) {
            const int32_t weight = weights[k];
            for (int part = 0; part < 4; ++part) sums[part] += widen(load<Bytes>(in + part * lanes)) * weight;
        }
        for (int part = 0; part < 4; ++part) store(out + x + part * lanes, narrow_clamped(sums[part] >> weight_bits));
    }
}

// `lanes` pixels of four bytes -> as many bytes of each channel, one channel after the other: every four pixels by
// themselves, then fours of bytes.
void split(const uint8_t* pixels, uint8_t* channels) {
    using Part = Vector<uint8_t, 16>;
    Row parts[lanes / 4];
    for (int i = 0; i < lanes / 4; ++i) {
        const Part four = load<Part>(pixels + 16 * i);
        parts[i] = (Row)__builtin_shufflevector(four, four, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    }
    store(channels, by_pixel(block(parts)));
}

// A row of pixels of four bytes, of which `lanes` more may be read than there are -> its channels.
void split_row(const uint8_t* pixels, int width, uint8_t* const* out) {
    for (int x = 0; x < width; x += lanes) {
        uint8_t channels[4 * lanes];
        split(pixels + 4 * x, channels);
        for (int channel = 0; channel < 3; ++channel) {
            const uint8_t* const from = channels + channel * lanes;
            if (x + lanes <= width)
                __builtin_memcpy(out[channel] + x, from, lanes);
            else
                __builtin_memcpy(out[channel] + x, from, static_cast<size_t>(width - x));
        }
    }
}

}  // namespace

void resample(const uint8_t* source, size_t stride, PixelSize size, int height, int width, const Taps& horizontal,
              const Taps& vertical, uint8_t* scratch, const Planar& out) {
    const ResampleScratch sizes(height, width, out.width);
    uint8_t* const padded_rows = scratch;
    uint8_t* const gathered = padded_rows + 4 * sizes.padded_row;
    uint8_t* const rows = gathered + sizes.gathered;
    uint8_t* const blended_row = rows + sizes.rows;

    constexpr decltype(&horizontal_pass<0>) by_count[] = {horizontal_pass<0>, horizontal_pass<1>, horizontal_pass<2>,
                                                          horizontal_pass<3>, horizontal_pass<4>, horizontal_pass<5>,
                                                          horizontal_pass<6>};
    const auto pass = by_count[horizontal.taps <= 6 ? horizontal.taps : 0];
    for (int y = 0; y < height; y += rows_together) {
        const uint8_t* in[rows_together];  // the last row several times, where there are no more
        for (int row = 0; row < rows_together; ++row)
            in[row] = source + static_cast<size_t>(y + row < height ? y + row : height - 1) * stride;
        if (size == PixelSize::four) {
            gather_rows<PixelSize::four>(in, width, gathered);
        } else {
            for (int row = 0; row < rows_together; ++row) {
                uint8_t* const padded = padded_rows + static_cast<size_t>(row) * sizes.padded_row;
                __builtin_memcpy(padded, in[row], static_cast<size_t>(width) * 3);
                in[row] = padded;
            }
            gather_rows<PixelSize::three>(in, width, gathered);
        }
        pass(gathered, horizontal, out.width, rows + static_cast<size_t>(y) * sizes.row, sizes.row);
    }
    for (int y = 0; y < out.height; ++y) {
        vertical_pass(rows + static_cast<size_t>(vertical.first[y]) * sizes.row, sizes.row,
                      vertical.weights + static_cast<size_t>(y) * static_cast<size_t>(vertical.taps), vertical.taps,
                      blended_row);
        const size_t offset = static_cast<size_t>(y) * static_cast<size_t>(out.width);
        uint8_t* const channels[3] = {out.plane(0) + offset, out.plane(1) + offset, out.plane(2) + offset};
        split_row(blended_row, out.width, channels);
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
