// The inverse DCT of Loeffler, Ligtenberg and Moschytz (ICASSP 1989) in the fixed-point form of the Independent JPEG
// Group's accurate integer method, which is libjpeg-turbo's default: the same constants and roundings, so the same
// bits. Its additions before multiplications are multiplied out, which 32 bits hold exactly: pairs of 16-bit numbers
// are multiplied and added by one instruction. Part of mcu.cpp.
#pragma once
#include "kernels/mcu.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

// Registers consist of lanes of 128 bits, of which a block takes two: half a register, a whole one or two registers.
constexpr int registers = lanes == 4 ? 2 : 1;
constexpr int blocks_together = lanes == 16 ? 2 : 1;

// Numbers of eight rows: pairs from rows 0 and 4, then 2 and 6, 1 and 5, 3 and 7, each for columns 0, 4, 2 and 6 in the
// first lane and 1, 5, 3 and 7 in the second. So pairs of neighbours stay together when rows and columns change places.
struct Pairs {
    Words words[4][registers];
};
struct Rows {
    Ints rows[registers][8];
};

// A block that waits for its transform.
struct Quantized {
    const int16_t* levels;  // [64], in the order of Quantizers::place()
    const Quantizers* quantizers;
    uint8_t* out;
    size_t stride;
};

// The largest and the smallest of many numbers.
struct Extremes {
    Words high{}, low{};

    void note(Words numbers) {
        high = numbers > high ? numbers : high;
        low = numbers < low ? numbers : low;
    }
    bool within(int lowest, int highest) const {
        bool all = true;
        for (int i = 0; i < 2 * lanes; ++i) all &= low[i] >= lowest && high[i] <= highest;
        return all;
    }
};

struct DctExtremes {
    Extremes excess;  // of coefficients over Quantizers::limits
    Extremes between, samples;
};

// One dimension.
template <int shift>
inline Rows transform(const Pairs& in) {
    Rows out;
    for (int r = 0; r < registers; ++r) {
        const Words pair04 = in.words[0][r], pair26 = in.words[1][r], pair15 = in.words[2][r], pair37 = in.words[3][r];
        const Ints half = Ints{} + (1 << (shift - 1));
        const Ints even0 = add_pair_products(half, pair04, pair(8192, 8192));
        const Ints even1 = add_pair_products(half, pair04, pair(8192, -8192));
        const Ints even2 = multiply_pairs(pair26, pair(4433, -10704));
        const Ints even3 = multiply_pairs(pair26, pair(10703, 4433));
        const Ints sum0 = even0 + even3, sum1 = even1 + even2, sum2 = even1 - even2, sum3 = even0 - even3;
        const Ints odd0 = add_pair_products(multiply_pairs(pair15, pair(11363, 6437)), pair37, pair(9633, 2260));
        const Ints odd1 = add_pair_products(multiply_pairs(pair15, pair(9633, -11362)), pair37, pair(-2259, -6436));
        const Ints odd2 = add_pair_products(multiply_pairs(pair15, pair(6437, 2261)), pair37, pair(-11362, 9633));
        const Ints odd3 = add_pair_products(multiply_pairs(pair15, pair(2260, 9633)), pair37, pair(-6436, -11363));
        const Ints sums[8] = {sum0 + odd0, sum1 + odd1, sum2 + odd2, sum3 + odd3,
                              sum3 - odd3, sum2 - odd2, sum1 - odd1, sum0 - odd0};
        for (int i = 0; i < 8; ++i) out.rows[r][i] = sums[i] >> shift;
    }
    return out;
}

// Rows and columns change places.
inline Pairs turned(const Rows& in, Extremes& extremes) {
    Ints pairs[2][registers][2];  // columns 0 4 and 1 5, then 2 6 and 3 7, by lanes; of four rows, and four
    for (int r = 0; r < registers; ++r)
        for (int i = 0; i < 2; ++i) {
            const Ints* const rows = in.rows[r] + 4 * i;
            const Words even = join(rows[0], rows[2]), odd = join(rows[1], rows[3]);
            extremes.note(even);
            extremes.note(odd);
            const Ints first = interleave_low((Ints)even, (Ints)odd), last = interleave_high((Ints)even, (Ints)odd);
            pairs[0][r][i] = interleave_low((Longs)first, (Longs)last);
            pairs[1][r][i] = interleave_high((Longs)first, (Longs)last);
        }
    Pairs out;
    for (int i = 0; i < 2; ++i)
        for (int r = 0; r < registers; ++r) {
            const bool apart = registers == 2;
            out.words[i][r] = (Words)(apart ? pairs[i][0][r] : even_lanes(pairs[i][0][0], pairs[i][0][1]));
            out.words[2 + i][r] =
                (Words)(apart ? pairs[i][registers - 1][r] : odd_lanes(pairs[i][0][0], pairs[i][0][1]));
        }
    return out;
}

inline Pairs dequantized(const Quantized* blocks, Extremes& excess) {
    Pairs out;
    const Quantized &first = blocks[0], &last = blocks[blocks_together - 1];
    for (int i = 0; i < 4; ++i)
        for (int r = 0; r < registers; ++r) {
            const int at = 16 * i + 8 * r;
            const Words levels = load_both(first.levels + at, last.levels + at);
            const Words factors = load_both(first.quantizers->factors + at, last.quantizers->factors + at);
            const Words limits = load_both(first.quantizers->limits + at, last.quantizers->limits + at);
            excess.note((levels < 0 ? -levels : levels) - limits);
            out.words[i][r] = levels * factors;
        }
    return out;
}

// Transforms as many blocks as belong together.
inline void inverse_dct(const Quantized* blocks, DctExtremes& extremes) {
    const Rows rows = transform<11>(dequantized(blocks, extremes.excess));
    const Rows columns = transform<18>(turned(rows, extremes.between));
    for (int r = 0; r < registers; ++r) {
        Words pairs[4];
        for (int i = 0; i < 4; ++i) {
            pairs[i] = join(columns.rows[r][2 * i], columns.rows[r][2 * i + 1]);
            extremes.samples.note(pairs[i]);
        }
        // Of each row its first four samples, then its last four.
        const Ints left = turned_bytes(narrow_join(pairs[0] + 128, pairs[1] + 128));
        const Ints right = turned_bytes(narrow_join(pairs[2] + 128, pairs[3] + 128));
        uint64_t samples[2][lanes / 2];
        store(samples[0], interleave_low(left, right));
        store(samples[1], interleave_high(left, right));
        for (int lane = 0; lane < lanes / 4; ++lane) {
            const Quantized& block = blocks[lane / 2];
            for (int i = 0; i < 4; ++i)
                __builtin_memcpy(block.out + static_cast<size_t>(4 * (lane % 2 + r) + i) * block.stride,
                                 &samples[i / 2][2 * lane + i % 2], 8);
        }
    }
}

}  // namespace
}  // namespace FFCV_ISA
}  // namespace ffcv
