// Separable resampling in fixed point, horizontally and then vertically with eight bits between, as Pillow does.
//
// Both passes add up four products at a time: four bytes lie side by side in each lane of 32 bits, and their weights,
// which have more bits than an instruction multiplies, are taken apart into digits that lie like them. Of enlarged
// images outputs have two taps: their bytes lie in words, where that saves instructions.
#include "kernels/interleave.h"
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int32_t half = 1 << (weight_bits - 1);
constexpr int rows_together = 4;

enum class TapCount { two, four, more };  // of an output: at most so many, or any number, four at a time

constexpr int num_pair_digits = 2, low_bits = 11;  // the weights' high bits, and their low ones
constexpr int32_t low_ones = (1 << low_bits) - 1;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr int in_low_byte = 0;
inline Ints words(Ints first, Ints second) { return (first & 0xffff) | second << 16; }
inline Words low_words(Registered x) { return interleave_low(x, Registered{}); }
inline Words high_words(Registered x) { return interleave_high(x, Registered{}); }
#else
constexpr int in_low_byte = 1;
inline Ints words(Ints first, Ints second) { return first << 16 | (second & 0xffff); }
inline Words low_words(Registered x) { return interleave_low(Registered{}, x); }
inline Words high_words(Registered x) { return interleave_high(Registered{}, x); }
#endif

void take_apart(const Ints (&weights)[2], Ints* digits) {
    digits[0] = words(weights[0] >> low_bits, weights[1] >> low_bits);
    digits[1] = words(weights[0] & low_ones, weights[1] & low_ones);
}

inline Words interleave(bool high, Words a, Words b) { return high ? interleave_high(a, b) : interleave_low(a, b); }

// Of two taps.
inline Ints weighted(Words two, const Ints* digits) {
    const Ints high = multiply_pairs(two, (Words)digits[0]);
    return ((high << low_bits) + add_pair_products(Ints{} + half, two, (Words)digits[1])) >> weight_bits;
}

#if defined(__AVX512VNNI__)

// Digits from -128 to 127 of numbers to the base of 256, the highest first.
constexpr int num_digits = 3;

// Of four taps of `lanes` outputs.
void take_apart(const Ints (&weights)[4], Ints* digits) {
    for (int digit = 0; digit < num_digits; ++digit) digits[digit] = Ints{};
    for (int k = 0; k < 4; ++k) {
        Ints rest = weights[k];
        for (int digit = num_digits - 1; digit >= 0; --digit) {
            const Ints lowest = (rest << 24) >> 24;
            digits[digit] |= (lowest & 255) << 8 * k;
            rest = (rest - lowest) >> 8;
        }
    }
}

// Of four taps.
inline Ints weighted(Ints bytes, const Ints* digits) {
    const Ints high = add_products(Ints{} + (half >> 16), bytes, digits[0]);
    const Ints middle = add_products(high << 8, bytes, digits[1]);
    return add_products(middle << 8, bytes, digits[2]) >> weight_bits;
}

// Of any number of taps.
class Sum {
public:
    void add(Ints bytes, const Ints* digits) {
        for (int i = 0; i < num_digits; ++i) sums_[i] = add_products(sums_[i], bytes, digits[i]);
    }
    Ints value() const { return ((((sums_[0] << 8) + sums_[1]) << 8) + sums_[2]) >> weight_bits; }

private:
    Ints sums_[num_digits] = {Ints{} + (half >> 16), Ints{}, Ints{}};
};

#else

// The high and the low bits of the weights of bytes 0 and 2, then of 1 and 3, in pairs of words.
constexpr int num_digits = 4;

void take_apart(const Ints (&weights)[4], Ints* digits) {
    for (int i = 0; i < 2; ++i) {
        const Ints a = weights[i ^ in_low_byte], b = weights[(i ^ in_low_byte) + 2];
        digits[2 * i] = words(a >> low_bits, b >> low_bits);
        digits[2 * i + 1] = words(a & low_ones, b & low_ones);
    }
}

class Sum {
public:
    void add(Ints bytes, const Ints* digits) {
        using Unsigned = Vector<uint16_t, 2 * lanes>;
        const Words first = (Words)bytes & 255, second = (Words)((Unsigned)bytes >> 8);
        high_ = add_pair_products(add_pair_products(high_, first, (Words)digits[0]), second, (Words)digits[2]);
        low_ = add_pair_products(add_pair_products(low_, first, (Words)digits[1]), second, (Words)digits[3]);
    }
    Ints value() const { return ((high_ << low_bits) + low_) >> weight_bits; }

private:
    Ints high_{}, low_ = Ints{} + half;
};

inline Ints weighted(Ints bytes, const Ints* digits) {
    Sum sum;
    sum.add(bytes, digits);
    return sum.value();
}

#endif

#if defined(__AVX512F__)  // VNNI multiplies four at once; the others were not measured
constexpr bool saves_by_pairs = false;
#else
constexpr bool saves_by_pairs = true;
#endif
constexpr uint8_t no_byte = 128;  // an index for which shuffles give zero

TapCount count_of(const Taps& taps) {
    return saves_by_pairs && taps.taps <= 2 ? TapCount::two : taps.taps <= 4 ? TapCount::four : TapCount::more;
}

// Of `lanes` outputs, with so many groups of four taps.
constexpr int digits_of(TapCount count, int groups) {
    return count == TapCount::two ? num_pair_digits : groups * num_digits;
}

// The digits of each `together` taps of `lanes` outputs, then of the next outputs.
template <int together>
void take_apart_by(const Taps& taps, int outputs, Ints* digits) {
    for (int i = 0; i < outputs; i += lanes) {
        for (int k = 0; k < taps.taps; k += together) {
            Ints weights[together] = {};
            for (int tap = 0; tap < together && k + tap < taps.taps; ++tap)
                weights[tap] = load<Ints>(taps.weights + static_cast<size_t>(k + tap) * taps.stride + i);
            take_apart(weights, digits);
            digits += together == 2 ? num_pair_digits : num_digits;
        }
    }
}

void take_all_apart(const Taps& taps, TapCount count, int outputs, Ints* digits) {
    if (count == TapCount::two)
        take_apart_by<2>(taps, outputs, digits);
    else
        take_apart_by<4>(taps, outputs, digits);
}

// What makes `lanes` neighbouring outputs: where their first bytes lie, for shuffles or one by one, and all digits.
struct Across {
    TapCount count;
    int groups;  // of four taps
    bool is_narrow = true;
    Ints *starts, *indices, *digits;

    Across(const Taps& taps, int width, uint8_t* memory) : count(count_of(taps)), groups((taps.taps + 3) / 4) {
        const int blocks = (width + lanes - 1) / lanes;
        starts = reinterpret_cast<Ints*>(memory);
        indices = starts + blocks;
        digits = indices + blocks;
        for (int block = 0; block < blocks; ++block) {
            const int32_t* const first = taps.first + block * lanes;
            place(first, reinterpret_cast<int32_t*>(starts + block), reinterpret_cast<uint8_t*>(indices + block));
        }
        if (!is_narrow) {
            __builtin_memcpy(starts, taps.first, sizeof(Ints) * static_cast<size_t>(blocks));
            count = TapCount::more;
        }
        take_all_apart(taps, count, width, digits);
    }

private:
    void place(const int32_t* first, int32_t* windows, uint8_t* index) {
        for (int begin = 0; begin < lanes; begin += outputs_a_window) {
            int32_t lowest = first[begin];
            for (int i = 1; i < outputs_a_window; ++i) lowest = first[begin + i] < lowest ? first[begin + i] : lowest;
            *windows++ = lowest;
            for (int i = 0; i < outputs_a_window; ++i) {
                const int32_t place = first[begin + i] - lowest;
                is_narrow = is_narrow && place + 4 <= window_bytes;
                if (count == TapCount::two) {
                    const uint8_t two[2] = {static_cast<uint8_t>(place), static_cast<uint8_t>(place + 1)};
                    for (const uint8_t byte : two) {
                        *index++ = byte;
                        *index++ = no_byte;
                    }
                    continue;
                }
                for (int k = 0; k < 4; ++k) *index++ = static_cast<uint8_t>(place + k);
            }
        }
    }
};

// Four bytes from every start.
inline Ints load_fours(const uint8_t* row, Ints starts) {
    Ints fours;
    for (int i = 0; i < lanes; ++i) fours[i] = load<int32_t>(row + starts[i]);
    return fours;
}

// `rows_together` rows of a channel; `out` may get up to lanes - 1 bytes more a row than there are outputs.
template <bool is_narrow, TapCount count>
void horizontal_pass(const uint8_t* const* in, const Across& across, int out_width, uint8_t* out, size_t row_bytes) {
    const int groups = count == TapCount::more ? across.groups : 1;
    const Ints* digits = across.digits;
    for (int block = 0; block * lanes < out_width; ++block, digits += digits_of(count, groups), out += lanes) {
        const Ints starts = across.starts[block];
        const Registered index = (Registered)across.indices[block];
        const auto four = [&](int row, int group) {
            const uint8_t* const from = in[row] + 4 * group;
            return is_narrow ? (Ints)shuffled(load_windows(from, starts), index) : load_fours(from, starts);
        };
        Ints values[rows_together];
        for (int row = 0; row < rows_together; ++row) {
            if (count == TapCount::two) {
                values[row] = weighted((Words)four(row, 0), digits);
                continue;
            }
            if (count == TapCount::four) {
                values[row] = weighted(four(row, 0), digits);
                continue;
            }
            Sum sum;
            for (int group = 0; group < groups; ++group) sum.add(four(row, group), digits + group * num_digits);
            values[row] = sum.value();
        }
        // Lanes of 128 bits hold four outputs of each row; then come all outputs of the first row, and so on.
        const Ints rows = quarters(narrow_join(join(values[0], values[1]), join(values[2], values[3])));
        for (int row = 0; row < rows_together; ++row)
            __builtin_memcpy(out + static_cast<size_t>(row) * row_bytes,
                             reinterpret_cast<const char*>(&rows) + lanes * row, lanes);
    }
}

// A row of `length` bytes, rounded up to registers, out of the rows from `rows` on.
template <TapCount count>
void vertical_pass(const uint8_t* rows, size_t row_bytes, const Ints* digits, int number, size_t length, uint8_t* out) {
    const int groups = count == TapCount::more ? number : 1;
    for (size_t x = 0; x < length; x += sizeof(Registered)) {
        const auto row = [&](int i) { return load<Registered>(rows + static_cast<size_t>(i) * row_bytes + x); };
        Ints values[4];
        if (count == TapCount::two) {
            const Words a[2] = {low_words(row(0)), high_words(row(0))}, b[2] = {low_words(row(1)), high_words(row(1))};
            for (int i = 0; i < 4; ++i) values[i] = weighted(interleave(i % 2, a[i / 2], b[i / 2]), digits);
            store(out + x, narrow_join(join(values[0], values[1]), join(values[2], values[3])));
            continue;
        }
        Sum sums[4];
        for (int group = 0; group < groups; ++group) {
            const Registered in[4] = {row(4 * group), row(4 * group + 1), row(4 * group + 2), row(4 * group + 3)};
            const Words a[2] = {interleave_low(in[0], in[1]), interleave_high(in[0], in[1])};
            const Words b[2] = {interleave_low(in[2], in[3]), interleave_high(in[2], in[3])};
            for (int i = 0; i < 4; ++i) {
                const Ints four = (Ints)interleave(i % 2, a[i / 2], b[i / 2]);
                if (count == TapCount::four)
                    values[i] = weighted(four, digits);
                else
                    sums[i].add(four, digits + group * num_digits);
            }
        }
        if (count == TapCount::more)
            for (int i = 0; i < 4; ++i) values[i] = sums[i].value();
        store(out + x, narrow_join(join(values[0], values[1]), join(values[2], values[3])));
    }
}

template <bool is_narrow>
auto horizontal_pass_for(TapCount count) {
    if (count == TapCount::two) return horizontal_pass<is_narrow, TapCount::two>;
    return count == TapCount::four ? horizontal_pass<is_narrow, TapCount::four>
                                   : horizontal_pass<is_narrow, TapCount::more>;
}

auto vertical_pass_for(TapCount count) {
    if (count == TapCount::two) return vertical_pass<TapCount::two>;
    return count == TapCount::four ? vertical_pass<TapCount::four> : vertical_pass<TapCount::more>;
}

}  // namespace

void resample(const Rgb& source, int height, int width, const Taps& horizontal, const Taps& vertical, uint8_t* scratch,
              const Canvas& out) {
    const ResampleScratch sizes(height, width, out.height, out.width, horizontal.taps, vertical.taps);
    uint8_t* const planes = reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<uintptr_t>(scratch), 64));
    uint8_t* const weights = planes + 12 * sizes.plane_row;
    Ints* const down = reinterpret_cast<Ints*>(weights + sizes.across);
    uint8_t* const rows = weights + sizes.across + sizes.down;
    uint8_t* const blended_row = rows + sizes.rows;

    const Across across(horizontal, out.width, weights);
    const auto pass =
        across.is_narrow ? horizontal_pass_for<true>(across.count) : horizontal_pass<false, TapCount::more>;
    for (int y = 0; y < height; y += rows_together) {
        const uint8_t* in[3][rows_together];
        for (int row = 0; row < rows_together; ++row) {
            // The last row several times, where there are no more.
            const size_t offset = static_cast<size_t>(y + row < height ? y + row : height - 1) * source.stride;
            uint8_t* split[3];
            for (int channel = 0; channel < 3; ++channel) {
                split[channel] = planes + static_cast<size_t>(3 * row + channel) * sizes.plane_row;
                in[channel][row] =
                    source.layout == PixelLayout::planes ? source.channels[channel] + offset : split[channel];
            }
            if (source.layout == PixelLayout::interleaved)
                split_pixels(source.channels[0] + offset, static_cast<size_t>(width), split);
        }
        uint8_t* const to = rows + static_cast<size_t>(y) * sizes.row;
        for (int channel = 0; channel < 3; ++channel)
            pass(in[channel], across, out.width, to + channel * out.width, sizes.row);
    }
    const TapCount count = count_of(vertical);
    const int groups = (vertical.taps + 3) / 4;
    const int digits = digits_of(count, groups);
    const auto blend = vertical_pass_for(count);
    take_all_apart(vertical, count, out.height, down + digits);
    const size_t out_width = static_cast<size_t>(out.width);
    const uint8_t* const blended[3] = {blended_row, blended_row + out_width, blended_row + 2 * out_width};
    for (int y = 0; y < out.height; ++y) {
        const Ints* const of_outputs = down + (1 + y / lanes) * digits;
        for (int i = 0; i < digits; ++i) down[i] = Ints{} + of_outputs[i][y % lanes];
        blend(rows + static_cast<size_t>(vertical.first[y]) * sizes.row, sizes.row, down, groups, 3 * out_width,
              blended_row);
        uint8_t* to[3];
        out.row(y, to);
        if (out.layout == PixelLayout::interleaved) {
            join_pixels(blended, out_width, to[0]);
            continue;
        }
        for (int channel = 0; channel < 3; ++channel) __builtin_memcpy(to[channel], blended[channel], out_width);
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
