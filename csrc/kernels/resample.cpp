// Separable resampling in fixed point, horizontally and then vertically with eight bits between, as Pillow does.
//
// Both passes add up four products at a time: four bytes lie side by side in each lane of 32 bits, and their weights,
// which have more bits than an instruction multiplies, are taken apart into digits that lie like them.
#include "kernels/interleave.h"
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int32_t half = 1 << (weight_bits - 1);
constexpr int rows_together = 4;

#if defined(__AVX512VNNI__)

// Digits from -128 to 127 of numbers to the base of 256, the highest first.
constexpr int num_digits = 3;

void take_apart(const int32_t* weights, int32_t* digits, size_t step) {
    int8_t bytes[num_digits][4];
    for (int k = 0; k < 4; ++k) {
        int32_t rest = weights[k];
        for (int digit = num_digits - 1; digit >= 0; --digit) {
            bytes[digit][k] = static_cast<int8_t>(rest);
            rest = (rest - bytes[digit][k]) >> 8;
        }
    }
    for (size_t digit = 0; digit < num_digits; ++digit) __builtin_memcpy(digits + digit * step, bytes[digit], 4);
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
constexpr int num_digits = 4, low_bits = 11;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr int in_low_byte = 0;
#else
constexpr int in_low_byte = 1;
#endif

void take_apart(const int32_t* weights, int32_t* digits, size_t step) {
    for (size_t i = 0; i < 2; ++i) {
        const size_t from = i ^ in_low_byte;
        int16_t high[2], low[2];
        for (size_t k = 0; k < 2; ++k) {
            high[k] = static_cast<int16_t>(weights[from + 2 * k] >> low_bits);
            low[k] = static_cast<int16_t>(weights[from + 2 * k] & ((1 << low_bits) - 1));
        }
        __builtin_memcpy(digits + 2 * i * step, high, 4);
        __builtin_memcpy(digits + (2 * i + 1) * step, low, 4);
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

// `taps` weights, and zeros to a multiple of four -> digits of each four, `step` numbers apart.
void take_all_apart(const int32_t* weights, int taps, int32_t* digits, size_t step) {
    for (int k = 0; k < taps; k += 4, digits += num_digits * step) {
        int32_t four[4] = {};
        __builtin_memcpy(four, weights + k, sizeof(int32_t) * static_cast<size_t>(taps - k < 4 ? taps - k : 4));
        take_apart(four, digits, step);
    }
}

// What makes `lanes` neighbouring outputs: where their first bytes lie, for shuffles or one by one, and all digits.
struct Across {
    int groups;  // of four taps
    bool is_narrow = true;
    Ints *starts, *indices, *digits;

    Across(const Taps& taps, int width, uint8_t* memory) : groups((taps.taps + 3) / 4) {
        const int blocks = (width + lanes - 1) / lanes;
        starts = reinterpret_cast<Ints*>(memory);
        indices = starts + blocks;
        digits = indices + blocks;
        for (int block = 0; block < blocks; ++block) {
            const int32_t* const first = taps.first + block * lanes;
            place(first, reinterpret_cast<int32_t*>(starts + block), reinterpret_cast<uint8_t*>(indices + block));
            int32_t* const to = reinterpret_cast<int32_t*>(digits + block * groups * num_digits);
            for (int i = 0; i < lanes; ++i)
                take_all_apart(taps.weights + (block * lanes + i) * taps.taps, taps.taps, to + i, lanes);
        }
        if (!is_narrow) __builtin_memcpy(starts, taps.first, sizeof(Ints) * static_cast<size_t>(blocks));
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
template <bool is_narrow, int count>
void horizontal_pass(const uint8_t* const* in, const Across& across, int out_width, uint8_t* out, size_t row_bytes) {
    const int groups = count == 0 ? across.groups : count;
    const Ints* digits = across.digits;
    for (int block = 0; block * lanes < out_width; ++block, digits += groups * num_digits, out += lanes) {
        const Ints starts = across.starts[block];
        const Registered index = (Registered)across.indices[block];
        const auto four = [&](int row, int group) {
            const uint8_t* const from = in[row] + 4 * group;
            return is_narrow ? (Ints)shuffled(load_windows(from, starts), index) : load_fours(from, starts);
        };
        Ints values[rows_together];
        for (int row = 0; row < rows_together; ++row) {
            if (count == 1) {
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
template <int count>
void vertical_pass(const uint8_t* rows, size_t row_bytes, const Ints* digits, int number, size_t length, uint8_t* out) {
    const int groups = count == 0 ? number : count;
    for (size_t x = 0; x < length; x += sizeof(Registered)) {
        Sum sums[4];
        Ints values[4];
        for (int group = 0; group < groups; ++group) {
            const uint8_t* const from = rows + static_cast<size_t>(4 * group) * row_bytes + x;
            Registered in[4];
            for (size_t row = 0; row < 4; ++row) in[row] = load<Registered>(from + row * row_bytes);
            const Words a[2] = {interleave_low(in[0], in[1]), interleave_high(in[0], in[1])};
            const Words b[2] = {interleave_low(in[2], in[3]), interleave_high(in[2], in[3])};
            for (int i = 0; i < 4; ++i) {
                const Words four =
                    i % 2 == 0 ? interleave_low(a[i / 2], b[i / 2]) : interleave_high(a[i / 2], b[i / 2]);
                if (count == 1)
                    values[i] = weighted((Ints)four, digits);
                else
                    sums[i].add((Ints)four, digits + group * num_digits);
            }
        }
        if (count != 1)
            for (int i = 0; i < 4; ++i) values[i] = sums[i].value();
        store(out + x, narrow_join(join(values[0], values[1]), join(values[2], values[3])));
    }
}

}  // namespace

void resample(const Rgb& source, int height, int width, const Taps& horizontal, const Taps& vertical, uint8_t* scratch,
              const Planar& out) {
    const ResampleScratch sizes(height, width, out.width, horizontal.taps, vertical.taps);
    uint8_t* const planes = reinterpret_cast<uint8_t*>(round_up(reinterpret_cast<uintptr_t>(scratch), 64));
    uint8_t* const weights = planes + 12 * sizes.plane_row;
    Ints* const down_digits = reinterpret_cast<Ints*>(weights + sizes.across);
    uint8_t* const rows = weights + sizes.across + sizes.down;
    uint8_t* const blended_row = rows + sizes.rows;

    const Across across(horizontal, out.width, weights);
    const auto pass = across.is_narrow ? (across.groups == 1 ? horizontal_pass<true, 1> : horizontal_pass<true, 0>)
                                       : horizontal_pass<false, 0>;
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
    const int groups = (vertical.taps + 3) / 4;
    const auto blend = groups == 1 ? vertical_pass<1> : vertical_pass<0>;
    int32_t* const numbers = reinterpret_cast<int32_t*>(down_digits + groups * num_digits);
    const size_t out_width = static_cast<size_t>(out.width);
    for (int y = 0; y < out.height; ++y) {
        take_all_apart(vertical.weights + y * vertical.taps, vertical.taps, numbers, 1);
        for (int i = 0; i < groups * num_digits; ++i) down_digits[i] = Ints{} + numbers[i];
        blend(rows + static_cast<size_t>(vertical.first[y]) * sizes.row, sizes.row, down_digits, groups, 3 * out_width,
              blended_row);
        for (int channel = 0; channel < 3; ++channel)
            __builtin_memcpy(out.plane(channel) + static_cast<size_t>(y) * out_width,
                             blended_row + static_cast<size_t>(channel) * out_width, out_width);
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
