// From the entropy-coded data of a sequential JPEG to samples of its components: Huffman codes and the inverse DCT.
#include "kernels/mcu.h"

#if defined(__BMI2__)
#include <immintrin.h>
#endif

#include "kernels/dct.h"
#include "kernels/kernels.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int end_of_block = HuffmanLookup::end_of_block;
// Beyond, samples do not become 0 or 255 everywhere: libjpeg-turbo's portable code wraps around, its vector code does
// not.
constexpr int lowest_sample = -512, highest_sample = 511;

// Where the coefficients of the zigzag order lie in a block; those behind the block go to a place behind it.
struct Zigzag {
    uint8_t places[64 + 16 + end_of_block + 1];
    constexpr Zigzag() : places() {
        int row = 0, column = 0;
        for (int k = 0; k < 64; ++k) {
            places[k] = static_cast<uint8_t>(Quantizers::place(row, column));
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
        for (size_t k = 64; k < sizeof places; ++k) places[k] = 64;
    }
};
constexpr Zigzag zigzag;
constexpr const uint8_t* block_end = zigzag.places + 64;

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
    bits.at += static_cast<unsigned>(63 - bits.count) >> 3;
    bits.count |= 56;
}

using Table = HuffmanLookup;
using Entry = Table::Entry;
static_assert(2 * (16 + Table::largest_size) <= 56);

inline int16_t value_of(uint64_t buffer, Entry::Value value) {
#if defined(__BMI2__)  // one instruction for the lowest bits, one to set the next
    return values.of[_bzhi_u64(buffer >> value.shift, value.size) | uint64_t{1} << value.size];
#else
    const uint64_t before = uint64_t{1} << value.size;
    return values.of[(buffer >> value.shift & (before - 1)) | before];
#endif
}

inline void drop(EntropyBits& bits, int count) {
    bits.buffer <<= count;
    bits.count -= count;
}

// The entry of the next code, which has `length` bits or more; of no bits where there is none such.
inline Entry find_code(uint64_t buffer, const Table& table, int length, bool is_dc) {
    const int32_t code = static_cast<int32_t>(buffer >> 48);
    while (length <= 16 && code >= table.limit[length]) ++length;
    if (length > 16) return {};
    const int32_t index = (code >> (16 - length)) - table.offset[length];
    return index < 0 || index > 255 ? Entry{} : huffman_entry(length, table.symbols[index], is_dc);
}

// The DC coefficient, by its difference from the last one; false for damaged data. Leaves bits for one code more.
inline bool take_dc(EntropyBits& bits, const McuBlock& block) {
    refill(bits);
    const Entry* entry = &block.dc->dc[bits.buffer >> (64 - Table::dc_window)];
    Entry longer;
    if (entry->bits == 0) {
        longer = find_code(bits.buffer, *block.dc, Table::dc_window + 1, true);
        if (longer.bits == 0) return false;
        entry = &longer;
    }
    *block.prediction += value_of(bits.buffer, entry->values[0]);
    drop(bits, entry->bits);
    return *block.prediction <= largest_coefficient && *block.prediction >= -largest_coefficient;
}

// The AC coefficients one by one, to their places in zigzag order. Returns one more than the number of the last, or 0
// for damaged data.
int take_singly(EntropyBits& bits, const Table& table, int16_t* coefficients) {
    int k = 1;
    while (k < 64) {
        refill(bits);
        const Entry entry = find_code(bits.buffer, table, 1, false);
        if (entry.bits == 0) return 0;
        coefficients[zigzag.places[k + entry.place[0]]] = value_of(bits.buffer, entry.values[0]);
        drop(bits, entry.bits);
        if (entry.advance == end_of_block) return k;
        k += entry.advance;
    }
    return k == 64 ? k : 0;
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
        const Entry entry = find_code(bits.buffer, table, 1, false);
        if (entry.bits == 0) return false;
        drop(bits, entry.bits);
        k += entry.advance;
        if (k >= end_of_block) return true;
        if (k > 64) return false;
    }
    return true;
}

// The block whose only coefficient is the mean; false if it is too large.
inline bool fill_block(const Quantized& block) {
    const int32_t mean = block.levels[0] * block.quantizers->factors[0], level = (mean + 4) >> 3;
    if (level < lowest_sample || level > highest_sample) return false;
    const int32_t value = level + 128 < 0 ? 0 : level + 128 > 255 ? 255 : level + 128;
    const uint64_t samples = 0x0101010101010101u * static_cast<uint64_t>(value);
    for (size_t i = 0; i < 8; ++i) __builtin_memcpy(block.out + i * block.stride, &samples, 8);
    return true;
}

// Blocks between the codes and the DCT: that begins when their numbers have long left for the cache, since it reads
// more of them at once than were written; and it transforms several together.
class WaitingBlocks {
public:
    int16_t* next() { return levels_[count_]; }  // zeros, for a block, and a place for what lies behind it

    void add(const Quantized& block) {
        blocks_[count_++] = block;
        if (count_ == capacity) transform();
    }

    void transform() {
        for (int i = count_; i % blocks_together != 0; ++i) blocks_[i] = blocks_[count_ - 1];
        for (int i = 0; i < count_; i += blocks_together) inverse_dct(blocks_ + i, extremes_);
        __builtin_memset(levels_, 0, sizeof levels_[0] * static_cast<size_t>(count_));
        count_ = 0;
    }

    // All numbers were such that implementations agree.
    bool were_small() const {
        return extremes_.excess.within(INT16_MIN, 0) &&
               extremes_.between.within(-largest_coefficient, largest_coefficient) &&
               extremes_.samples.within(lowest_sample, highest_sample);
    }

private:
    static constexpr int capacity = 8;
    alignas(64) int16_t levels_[capacity][64 + 32] = {};
    Quantized blocks_[capacity];
    int count_ = 0;
    DctExtremes extremes_;
};

inline bool overdrawn(const EntropyBits& bits) { return (bits.at - bits.end) * 8 > bits.count; }

// What is read of a block, in registers while its AC codes are looked up.
struct Reading {
    EntropyBits bits;
    const uint8_t* place;  // of the next coefficient in the zigzag order
    int16_t* coefficients;
    const Table* table;

    // The next one or two coefficients; those that lie outside of the block go behind it. Without a branch: a code that
    // is longer than the window goes on as if the block had ended.
    void take() {
        const Entry* const entry = &table->entries[bits.buffer >> (64 - Table::window)];
        coefficients[place[entry->place[0]]] = value_of(bits.buffer, entry->values[0]);
        coefficients[place[entry->place[1]]] = value_of(bits.buffer, entry->values[1]);
        place += entry->advance;
        drop(bits, entry->bits);
    }

    // True at the end of the block, and where damage shows; reads a code that was too long.
    bool ends() {
        if (place < block_end) return false;
        if (__builtin_expect(place < zigzag.places + 1 + Table::longer, 1)) return true;
        place -= Table::longer;
        const Entry entry = find_code(bits.buffer, *table, Table::window + 1, false);
        if (entry.bits == 0) {
            place = block_end + 1;  // where no block ends
            return true;
        }
        coefficients[place[entry.place[0]]] = value_of(bits.buffer, entry.values[0]);
        place += entry.advance;
        drop(bits, entry.bits);
        return place >= block_end;
    }
};

// One more than the number of the last coefficient in zigzag order, once the codes of a block that begin `after_dc`
// have been read; 0 for damaged data.
inline int finish_codes(Reading& reading, const EntropyBits& after_dc) {
    const bool is_full = reading.place == block_end;
    const int end = static_cast<int>(reading.place - zigzag.places) - (is_full ? 0 : end_of_block);
    if (__builtin_expect(end >= 1 && (end <= 63 || is_full), 1)) return end;
    // Damaged, unless the second coefficient of a pair was the next block's.
    __builtin_memset(reading.coefficients + 1, 0, (64 + 31) * sizeof(int16_t));
    EntropyBits bits = after_dc;
    const int again = take_singly(bits, *reading.table, reading.coefficients);
    reading.bits = bits;
    return again;
}

// Hands a block over to the transform; false if its numbers are too large.
inline bool put_away(McuBlock& block, int16_t* coefficients, int end, WaitingBlocks& waiting) {
    const Quantized quantized{coefficients, block.quantizers, block.out, block.stride};
    block.out += block.step;
    if (end > 1) {
        waiting.add(quantized);
        return true;
    }
    const bool is_small = fill_block(quantized);
    coefficients[0] = 0;
    return is_small;
}

// One of two rows whose codes are read in turn. Inlined, so that each one's Reading stays in registers.
class Row {
public:
    Row(Mcu& mcu, int count) : mcu_(mcu), mcus_left_(count) {}

    enum class State { reading, finished, damaged };

    // A block's DC coefficient, which leaves bits for one code more.
    [[gnu::always_inline]] State begin(Reading& reading) {
        const McuBlock& block = mcu_.blocks[number_];
        reading.place = zigzag.places + 1;
        reading.coefficients = waiting_.next();
        reading.table = block.ac;
        if (!take_dc(reading.bits, block)) return state_ = State::damaged;
        reading.coefficients[0] = static_cast<int16_t>(*block.prediction);
        keep(reading.bits);
        return State::reading;
    }

    // If the block's codes have all been read, begins with the next one.
    [[gnu::always_inline]] State go_on(Reading& reading) {
        if (!reading.ends()) return State::reading;
        const int end = finish_codes(reading, after_dc_);
        if (end == 0 || !put_away(mcu_.blocks[number_], reading.coefficients, end, waiting_))
            return state_ = State::damaged;
        if (++number_ == mcu_.num_blocks) {
            if (overdrawn(reading.bits)) return state_ = State::damaged;
            number_ = 0;
            if (--mcus_left_ == 0) return state_ = State::finished;
        }
        return begin(reading);
    }

    // Reads what is left; false for damaged data.
    bool finish(Reading reading, EntropyBits& bits) {
        State state = state_;
        while (state == State::reading) {
            refill(reading.bits);
            reading.take();
            state = go_on(reading);
        }
        bits = reading.bits;
        waiting_.transform();
        return state == State::finished && waiting_.were_small();
    }

private:
    // Number by number: compilers copy all of it through a register that has to wait for them.
    [[gnu::always_inline]] void keep(const EntropyBits& bits) {
        after_dc_.at = bits.at;
        after_dc_.end = bits.end;
        after_dc_.buffer = bits.buffer;
        after_dc_.count = bits.count;
    }

    EntropyBits after_dc_{};
    Mcu& mcu_;
    int number_ = 0, mcus_left_;
    State state_ = State::reading;
    WaitingBlocks waiting_;
};

// A code of each row in turn, until one row is at its end: every code waits for the one before, and meanwhile the
// processor works on the other row's.
inline void read_side_by_side(Row& first, Reading& a, Row& second, Reading& b) {
    while (true) {
        refill(a.bits);
        refill(b.bits);
        a.take();
        b.take();
        if (a.place < block_end) a.take();
        if (b.place < block_end) b.take();
        const bool goes_on = first.go_on(a) == Row::State::reading;
        if (second.go_on(b) != Row::State::reading || !goes_on) return;
    }
}

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
    WaitingBlocks waiting;
    for (int i = 0; i < count; ++i) {
        for (int j = 0; j < mcu.num_blocks; ++j) {
            McuBlock& block = mcu.blocks[j];
            if (!take_dc(bits, block)) return false;
            Reading reading{bits, zigzag.places + 1, waiting.next(), block.ac};
            reading.coefficients[0] = static_cast<int16_t>(*block.prediction);
            while (true) {
                reading.take();
                if (reading.ends()) break;
                refill(reading.bits);
                reading.take();
                if (reading.ends()) break;
                refill(reading.bits);
            }
            const int end = finish_codes(reading, bits);
            if (end == 0 || !put_away(block, reading.coefficients, end, waiting)) return false;
            bits = reading.bits;
        }
        if (overdrawn(bits)) return false;
    }
    waiting.transform();
    given = bits;
    return waiting.were_small();
}

bool decode_two_rows(EntropyBits* bits, Mcu* mcus, int count) {
    if (count == 0) return true;
    Row first(mcus[0], count), second(mcus[1], count);
    Reading a{bits[0], nullptr, nullptr, nullptr}, b{bits[1], nullptr, nullptr, nullptr};
    if (first.begin(a) != Row::State::reading || second.begin(b) != Row::State::reading) return false;
    read_side_by_side(first, a, second, b);
    return first.finish(a, bits[0]) && second.finish(b, bits[1]);
}

}  // namespace FFCV_ISA
}  // namespace ffcv
