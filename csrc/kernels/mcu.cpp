// From the entropy-coded data of a sequential JPEG to samples of its components: Huffman codes and the inverse DCT.
//
// The DCT is that of Loeffler, Ligtenberg and Moschytz (ICASSP 1989) in the fixed-point form of the Independent JPEG
// Group's accurate integer method, which is libjpeg-turbo's default: the same constants and roundings, so the same
// bits.
#include "kernels/mcu.h"

#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int end_of_block = HuffmanLookup::end_of_block;
// Beyond this, implementations of the DCT overflow in different ways; no encoder writes such coefficients.
constexpr int32_t largest_coefficient = (1 << 14) - 1;
// Samples from -512 to 511 become 0 or 255 where they have to; beyond, libjpeg-turbo's portable code wraps around and
// its vector code does not. Shifted by so much, they exceed the largest coefficient.
constexpr int sample_check_shift = 5;

// Where the coefficients of the zigzag order lie in a block of 8 rows; those behind the block go to a place behind it.
struct Zigzag {
    uint8_t natural[64 + 16 + end_of_block + 1];
    constexpr Zigzag() : natural() {
        int row = 0, column = 0;
        for (int k = 0; k < 64; ++k) {
            natural[k] = static_cast<uint8_t>(8 * row + column);
            const bool rising = (row + column) % 2 == 0;
            if (rising && column == 7) {
                ++row;
            } else if (rising && row == 0) {
                ++column;
            } else if (!rising && row == 7) {
                ++column;
            } else if (!rising && column == 0) {
                ++row;
            } else {
                row += rising ? -1 : 1;
                column += rising ? 1 : -1;
            }
        }
        for (size_t k = 64; k < sizeof natural; ++k) natural[k] = 64;
    }
};
constexpr Zigzag zigzag;

// The values of coefficients by their bits with a one before them: those that begin with 0 are negative.
struct Values {
    int16_t of[2 << HuffmanLookup::largest_size];
    constexpr Values() : of() {
        for (int size = 1; size <= HuffmanLookup::largest_size; ++size)
            for (int bits = 0; bits < 1 << size; ++bits)
                of[1 << size | bits] = static_cast<int16_t>(bits < 1 << (size - 1) ? bits + 1 - (1 << size) : bits);
    }
};
constexpr Values values;

struct Coefficients {  // of a block, in rows, and a place for those that lie behind it
    alignas(64) int16_t values[64 + 32];
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr int byte_of(int i) { return i; }  // where the i-th byte in memory is in a number of 32 bits
#else
constexpr int byte_of(int i) { return 3 - i; }
#endif

inline uint64_t big_endian(const uint8_t* bytes) {
    uint64_t word;
    __builtin_memcpy(&word, bytes, 8);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

// To 56 bits or more, which is enough for two codes with their values.
inline void refill(EntropyBits& bits) {
    bits.buffer |= big_endian(bits.at) >> bits.count;
    bits.at += (63 - bits.count) >> 3;
    bits.count |= 56;
}

using Table = HuffmanLookup;
using Entry = Table::Entry;
static_assert(2 * (16 + Table::largest_size) <= 56);

inline int16_t value_of(uint64_t buffer, Entry::Value value) {
    const uint64_t before = uint64_t{1} << value.size;
    return values.of[(buffer >> value.shift & (before - 1)) | before];
}

inline void drop(EntropyBits& bits, int count) {
    bits.buffer <<= count;
    bits.count -= count;
}

// The entry of the next code, which has `length` bits or more; of no bits where there is none such.
inline Entry find_code(const EntropyBits& bits, const Table& table, int length, bool is_dc) {
    const int32_t code = static_cast<int32_t>(bits.buffer >> 48);
    while (length <= 16 && code >= table.limit[length]) ++length;
    if (length > 16) return {};
    const int32_t index = (code >> (16 - length)) - table.offset[length];
    return index < 0 || index > 255 ? Entry{} : huffman_entry(length, table.symbols[index], is_dc);
}

// The entry for the next bits, which may be made in `longer`; of no bits where they are no code.
inline const Entry& look_up(const EntropyBits& bits, const Table& table, const Entry* entries, bool is_dc,
                            Entry& longer) {
    const Entry& entry = entries[bits.buffer >> (64 - Table::window)];
    if (__builtin_expect(entry.bits != 0, 1)) return entry;
    longer = find_code(bits, table, Table::window + 1, is_dc);
    return longer;
}

// The DC coefficient, by its difference from the last one; false for damaged data. Leaves bits for one code more.
inline bool take_dc(EntropyBits& bits, const McuBlock& block) {
    refill(bits);
    Entry longer;
    const Entry& entry = look_up(bits, *block.dc, block.dc->one, true, longer);
    if (entry.bits == 0) return false;
    *block.prediction += value_of(bits.buffer, entry.values[0]);
    drop(bits, entry.bits);
    return *block.prediction <= largest_coefficient && *block.prediction >= -largest_coefficient;
}

// The AC coefficients, to their places; those that lie outside of the block go behind it. Returns one more than the
// number of the last coefficient in zigzag order, or 0 for damaged data, or what seems to be: with entries for two, the
// second may be the next block's.
[[gnu::always_inline]] inline int take_ac(EntropyBits& given, const Table& table, const Entry* entries,
                                          int16_t* coefficients) {
    EntropyBits bits = given;
    const uint8_t *at = zigzag.natural + 1, *const block_end = zigzag.natural + 64;
    const auto take = [&] {
        Entry longer;
        const Entry& entry = look_up(bits, table, entries, false, longer);
        if (entry.bits == 0) return false;
        coefficients[at[entry.place[0]]] = value_of(bits.buffer, entry.values[0]);
        coefficients[at[entry.place[1]]] = value_of(bits.buffer, entry.values[1]);
        at += entry.advance;
        drop(bits, entry.bits);
        return true;
    };
    while (true) {
        if (!take()) return 0;
        if (at >= block_end) break;
        refill(bits);
        if (!take()) return 0;
        if (at >= block_end) break;
    }
    const bool is_full = at == block_end;
    const int end = static_cast<int>(at - zigzag.natural) - (is_full ? 0 : end_of_block);
    if (end < 1 || (end > 63 && !is_full)) return 0;
    given = bits;
    return end;
}

inline int take_block(EntropyBits& bits, const McuBlock& block, int16_t* coefficients) {
    if (!take_dc(bits, block)) return 0;
    coefficients[0] = static_cast<int16_t>(*block.prediction);
    const int end = take_ac(bits, *block.ac, block.ac->two, coefficients);
    return end > 0 ? end : take_ac(bits, *block.ac, block.ac->one, coefficients);
}

// Passes over the AC coefficients of a block; false for damaged data.
inline bool skip_ac(EntropyBits& bits, const Table& table) {
    const auto next_step = [&] { return table.steps[bits.buffer >> (64 - Table::skip_window)]; };
    for (int k = 1; k < 64;) {
        refill(bits);
        Table::Step step = next_step();
        int next = k + Table::passed_by(step);
        if (next < 64) {  // two steps take 54 bits at most
            drop(bits, Table::bits_of(step));
            k = next;
            step = next_step();
            next = k + Table::passed_by(step);
            if (next < 64) {
                drop(bits, Table::bits_of(step));
                k = next;
                continue;
            }
        }
        if (next >= end_of_block && next < end_of_block + 64) {
            drop(bits, Table::bits_of(step));
            return true;
        }
        // A long code, or a step over the end of the block.
        refill(bits);
        const Entry entry = find_code(bits, table, 1, false);
        if (entry.bits == 0) return false;
        drop(bits, entry.bits);
        k += entry.advance;
        if (k >= end_of_block) return true;
        if (k > 64) return false;
    }
    return true;
}

// A block of 8 rows in registers, side by side where they are narrower.
constexpr int width = lanes < 8 ? 4 : 8;
using Row = Vector<int32_t, width>;
struct Rows {
    Row row[8];
};
struct Block {
    Rows parts[8 / width];
};

// One dimension of the inverse DCT, for the columns of a part. `few`: the last four rows are zeros.
template <bool few, int shift>
inline Rows transform(const Rows& in) {
    const auto row = [&](int i) { return few && i >= 4 ? Row{} : in.row[i]; };
    Row z1 = (row(2) + row(6)) * 4433;
    const Row even2 = z1 - row(6) * 15137, even3 = z1 + row(2) * 6270;
    const Row even0 = (row(0) + row(4)) << 13, even1 = (row(0) - row(4)) << 13;
    const Row half = Row{} + (1 << (shift - 1));
    const Row sum0 = even0 + even3 + half, sum3 = even0 - even3 + half;
    const Row sum1 = even1 + even2 + half, sum2 = even1 - even2 + half;

    const Row z5 = (row(7) + row(3) + row(5) + row(1)) * 9633;
    z1 = (row(7) + row(1)) * -7373;
    const Row z2 = (row(5) + row(3)) * -20995;
    const Row z3 = (row(7) + row(3)) * -16069 + z5, z4 = (row(5) + row(1)) * -3196 + z5;
    const Row odd0 = row(7) * 2446 + z1 + z3, odd1 = row(5) * 16819 + z2 + z4;
    const Row odd2 = row(3) * 25172 + z2 + z3, odd3 = row(1) * 12299 + z1 + z4;
    return {{(sum0 + odd3) >> shift, (sum1 + odd2) >> shift, (sum2 + odd1) >> shift, (sum3 + odd0) >> shift,
             (sum3 - odd0) >> shift, (sum2 - odd1) >> shift, (sum1 - odd2) >> shift, (sum0 - odd3) >> shift}};
}

#if defined(__AVX2__)
inline Block transposed(const Block& block) {
    const Row* const in = block.parts[0].row;
    Row pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = __builtin_shufflevector(in[i], in[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pairs[i + 1] = __builtin_shufflevector(in[i], in[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            const Row a = pairs[i + j], b = pairs[i + j + 2];
            fours[i + 2 * j] = __builtin_shufflevector(a, b, 0, 1, 8, 9, 4, 5, 12, 13);
            fours[i + 2 * j + 1] = __builtin_shufflevector(a, b, 2, 3, 10, 11, 6, 7, 14, 15);
        }
    Block out;
    for (int i = 0; i < 4; ++i) {
        out.parts[0].row[i] = __builtin_shufflevector(fours[i], fours[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        out.parts[0].row[i + 4] = __builtin_shufflevector(fours[i], fours[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    return out;
}
#else
inline Block transposed(const Block& block) {
    Block out;
    for (int part = 0; part < 2; ++part)
        for (int other = 0; other < 2; ++other) {
            const Row* const in = block.parts[part].row + 4 * other;
            Row* const to = out.parts[other].row + 4 * part;
            const Row a = __builtin_shufflevector(in[0], in[1], 0, 4, 1, 5);
            const Row b = __builtin_shufflevector(in[0], in[1], 2, 6, 3, 7);
            const Row c = __builtin_shufflevector(in[2], in[3], 0, 4, 1, 5);
            const Row d = __builtin_shufflevector(in[2], in[3], 2, 6, 3, 7);
            to[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
            to[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
            to[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
            to[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
        }
    return out;
}
#endif

// Coefficients [64] -> 8 x 8 samples; the bits of its result that are set tell how large the numbers became.
template <bool few>
inline Row inverse_dct(const int16_t* coefficients, const int32_t* quantizers, uint8_t* out, size_t stride) {
    Row largest{};
    const auto note = [&](const Row& numbers) { largest |= numbers ^ (numbers >> 31); };
    Block block;
    for (int p = 0; p < 8 / width; ++p) {
        Rows& part = block.parts[p];
        for (int i = 0; i < (few ? 4 : 8); ++i) {
            const int at = 8 * i + width * p;
            const Row levels = __builtin_convertvector(load<Vector<int16_t, width>>(coefficients + at), Row);
            part.row[i] = levels * load<Row>(quantizers + at);
            note(part.row[i]);
        }
        part = transform<few, 11>(part);
        for (const Row& row : part.row) note(row);
    }
    block = transposed(block);
    uint32_t samples[2][8];  // [half of a row][row]
    for (int p = 0; p < 8 / width; ++p) {
        const Rows part = transform<few, 18>(block.parts[p]);
        for (const Row& row : part.row) note(row << sample_check_shift);
        for (int half = 0; half < 2; ++half) {
            Row four{};
            for (int j = 0; j < 4; ++j) {
                Row value = part.row[4 * half + j] + 128;
                value = value < 0 ? Row{} : value;
                value = value > 255 ? Row{} + 255 : value;
                four |= value << (8 * byte_of(j));
            }
            store(samples[half] + width * p, four);
        }
    }
    for (size_t i = 0; i < 8; ++i, out += stride) {
        __builtin_memcpy(out, &samples[0][i], 4);
        __builtin_memcpy(out + 4, &samples[1][i], 4);
    }
    return largest;
}

// The block whose only coefficient is the mean.
inline void fill_block(int32_t level, uint8_t* out, size_t stride) {
    int32_t value = level + 128;
    value = value < 0 ? 0 : value > 255 ? 255 : value;
    const uint64_t samples = 0x0101010101010101u * static_cast<uint64_t>(value);
    for (size_t i = 0; i < 8; ++i) __builtin_memcpy(out + i * stride, &samples, 8);
}

inline bool overdrawn(const EntropyBits& bits) { return (bits.at - bits.end) * 8 > bits.count; }

}  // namespace

bool skip_mcus(EntropyBits& given, const Mcu& mcu, int count) {
    EntropyBits bits = given;
    for (int i = 0; i < count; ++i) {
        for (int j = 0; j < mcu.num_blocks; ++j)
            if (!take_dc(bits, mcu.blocks[j]) || !skip_ac(bits, *mcu.blocks[j].ac)) return false;
        if (overdrawn(bits)) return false;
    }
    given = bits;
    return true;
}

bool decode_mcus(EntropyBits& given, Mcu& mcu, int count) {
    EntropyBits bits = given;
    Coefficients block{};
    Row largest{};
    for (int i = 0; i < count; ++i) {
        for (int j = 0; j < mcu.num_blocks; ++j) {
            McuBlock& each = mcu.blocks[j];
            const int end = take_block(bits, each, block.values);
            if (end == 0) return false;
            if (end == 1) {
                const int32_t mean = block.values[0] * each.quantizers[0], level = (mean + 4) >> 3;
                largest |= Row{} + ((mean ^ (mean >> 31)) | (level ^ (level >> 31)) << sample_check_shift);
                fill_block(level, each.out, each.stride);
                block.values[0] = 0;
            } else {
                largest |= end <= 10 ? inverse_dct<true>(block.values, each.quantizers, each.out, each.stride)
                                     : inverse_dct<false>(block.values, each.quantizers, each.out, each.stride);
                __builtin_memset(block.values, 0, 64 * sizeof(int16_t));
            }
            each.out += each.step;
        }
        if (overdrawn(bits)) return false;
    }
    given = bits;
    int32_t all = 0;
    for (int lane = 0; lane < width; ++lane) all |= largest[lane];
    return all <= largest_coefficient;
}

}  // namespace FFCV_ISA
}  // namespace ffcv
