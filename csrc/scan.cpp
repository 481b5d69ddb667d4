#include "scan.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace ffcv {

namespace {

// What a block can take at most, 64 codes of 16 bits with values of 15, and a refill: so many zeros follow a segment,
// and only after each block is it checked that they were not read.
constexpr size_t padding = 64 * 31 / 8 + 16;

}  // namespace

// The bits of a segment without stuffed bytes. After `refill` there are 56 or more at hand.
class ScanChecker::Bits {
public:
    explicit Bits(std::span<const uint8_t> data) : begin_(data.data()), at_(data.data()), size_(8 * data.size()) {}

    void refill() {
        uint64_t word;
        std::memcpy(&word, at_, 8);
        if constexpr (std::endian::native == std::endian::little) word = __builtin_bswap64(word);
        buffer_ |= word >> count_;
        at_ += (63 - count_) >> 3;
        count_ |= 56;
    }
    uint32_t peek(int bits) const { return static_cast<uint32_t>(buffer_ >> (64 - bits)); }
    void drop(int bits) {
        buffer_ <<= bits;
        count_ -= bits;
    }
    bool overdrawn() const { return used() > size_; }
    // True if only padding is left: less than a byte.
    bool at_end() const { return !overdrawn() && size_ - used() < 8; }

private:
    size_t used() const { return 8 * static_cast<size_t>(at_ - begin_) - static_cast<size_t>(count_); }

    uint64_t buffer_ = 0;  // the next bit is the highest; below `count_` bits come copies of the following, or zeros
    int count_ = 0;
    const uint8_t *begin_, *at_;
    size_t size_;  // in bits
};

bool ScanChecker::Table::build(const HuffmanCodes& codes, bool is_dc) {
    if (codes.bits == nullptr) return false;
    // libjpeg leaves bits[0] unset.
    if (std::equal(bits_.begin() + 1, bits_.end(), codes.bits + 1) &&
        std::equal(symbols.begin(), symbols.end(), codes.symbols))
        return good_;
    std::copy_n(codes.bits, bits_.size(), bits_.begin());
    std::copy_n(codes.symbols, symbols.size(), symbols.begin());
    good_ = fill(is_dc);
    return good_;
}

bool ScanChecker::Table::fill(bool is_dc) {
    int32_t code = 0, index = 0;
    limit[0] = 0;
    for (int length = 1; length <= 16; ++length) {
        offset[static_cast<size_t>(length)] = code - index;
        code += bits_[static_cast<size_t>(length)];
        index += bits_[static_cast<size_t>(length)];
        if (index > 256 || code > 1 << length) return false;
        limit[static_cast<size_t>(length)] = code << (16 - length);
        code <<= 1;
    }
    for (int i = 0; is_dc && i < index; ++i)
        if (symbols[static_cast<size_t>(i)] > 15) return false;
    expand(steps.data(), window, Step(), is_dc);
    return true;
}

// What follows `before`, which leaves `room` bits of the window: steps [1 << room]. A code and its value that lie in
// the window are followed by the next code, whatever the value is.
void ScanChecker::Table::expand(Step* to, int room, Step before, bool is_dc) {
    const bool is_first = before.bits() == 0;
    std::fill_n(to, size_t{1} << room, before);
    if (is_dc && !is_first) return;
    const int passed = is_first ? 0 : static_cast<int>(before.passed());
    int32_t code = 0, index = 0;
    for (int length = 1; length <= room; ++length, code <<= 1)
        for (int i = 0; i < bits_[static_cast<size_t>(length)]; ++i, ++code, ++index) {
            const uint8_t symbol = symbols[static_cast<size_t>(index)];
            const int size = symbol & 15, run = is_dc ? 0 : symbol >> 4;
            const bool ends = !is_dc && size == 0 && run != 15;
            const int now = passed + (ends ? 0 : run + 1);
            if (now > 63) continue;
            const Step step(before.bits() + length + size, static_cast<unsigned>(now) + (ends ? Step::ends_block : 0));
            Step* const place = to + (code << (room - length));
            const int left = room - length - size;
            if (ends || left <= 0) {
                std::fill_n(place, size_t{1} << (room - length), step);
                continue;
            }
            expand(place, left, step, is_dc);
            const size_t block = size_t{1} << left;
            for (size_t value = 1; value < size_t{1} << size; ++value) std::copy_n(place, block, place + value * block);
        }
}

// A code that may be longer than the window; its value's bits are left.
bool ScanChecker::take_symbol(Bits& bits, const Table& table, int& symbol) {
    const int32_t code = static_cast<int32_t>(bits.peek(16));
    int length = 1;
    while (length <= 16 && code >= table.limit[static_cast<size_t>(length)]) ++length;
    if (length > 16) return false;
    const int32_t index = (code >> (16 - length)) - table.offset[static_cast<size_t>(length)];
    if (index < 0 || index > 255) return false;
    symbol = table.symbols[static_cast<size_t>(index)];
    bits.drop(length);
    return true;
}

inline bool ScanChecker::take_block(Bits& bits, const Table& dc, const Table& ac) {
    bits.refill();
    int symbol = 0;
    if (const Step step = dc.steps[bits.peek(window)]; step.passed() == 1) {
        bits.drop(step.bits());
    } else {
        if (!take_symbol(bits, dc, symbol)) return false;
        bits.drop(symbol);
    }
    for (unsigned k = 1; k < 64;) {
        bits.refill();
        Step step = ac.steps[bits.peek(window)];
        unsigned next = k + step.passed();
        if (next < 64) {  // two steps take 54 bits at most
            bits.drop(step.bits());
            k = next;
            step = ac.steps[bits.peek(window)];
            next = k + step.passed();
            if (next < 64) {
                bits.drop(step.bits());
                k = next;
                continue;
            }
        }
        if (next >= Step::ends_block && next < Step::ends_block + 64) {
            bits.drop(step.bits());
            break;
        }
        // A long code, or a step over the end of the block.
        bits.refill();
        if (!take_symbol(bits, ac, symbol)) return false;
        const int size = symbol & 15, run = symbol >> 4;
        bits.drop(size);
        if (size == 0 && run != 15) break;
        k += static_cast<unsigned>(run) + 1;
        if (k > 64) return false;
    }
    return !bits.overdrawn();
}

// Copies the entropy-coded data at `at` to `segment_`, which is large enough, without the zero that follows each 0xff;
// leaves `at` at the marker or the end. Returns the size.
size_t ScanChecker::unstuff(const uint8_t*& at, const uint8_t* end) {
    uint8_t* to = segment_.data();
    while (at < end) {
        const void* const found = std::memchr(at, 0xff, static_cast<size_t>(end - at));
        const uint8_t* const stop = found == nullptr ? end : static_cast<const uint8_t*>(found);
        to = std::copy(at, stop, to);
        at = stop;
        if (end - at < 2 || at[1] != 0) break;
        *to++ = 0xff;
        at += 2;
    }
    std::fill_n(to, padding, uint8_t{0});
    return static_cast<size_t>(to - segment_.data());
}

bool ScanChecker::is_whole(std::span<const uint8_t> data, const Layout& layout) {
    for (size_t i = 0; i < layout.num_blocks; ++i) {
        const auto [dc, ac] = layout.blocks[i];
        if (!dc_[dc].build(layout.dc[dc], true) || !ac_[ac].build(layout.ac[ac], false)) return false;
    }
    if (segment_.size() < data.size() + padding) segment_.resize(data.size() + padding);
    const uint8_t* at = data.data();
    const uint8_t* const end = at + data.size();
    const size_t interval = layout.restart_interval > 0 ? layout.restart_interval : layout.num_mcus;
    uint8_t turn = 0;
    for (size_t mcu = 0; mcu < layout.num_mcus;) {
        Bits bits({segment_.data(), unstuff(at, end)});
        for (const size_t stop = std::min(mcu + interval, layout.num_mcus); mcu < stop; ++mcu)
            for (size_t i = 0; i < layout.num_blocks; ++i) {
                const auto [dc, ac] = layout.blocks[i];
                if (!take_block(bits, dc_[dc], ac_[ac])) return false;
            }
        const uint8_t marker = mcu < layout.num_mcus ? 0xd0 + turn : 0xd9;
        if (!bits.at_end() || end - at < 2 || at[1] != marker) return false;
        at += 2;
        turn = (turn + 1) % 8;
    }
    return true;
}

}  // namespace ffcv
