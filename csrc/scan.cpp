#include "scan.h"

#include <bit>
#include <cstring>

namespace ffcv {

// The bits of the entropy-coded data, 32 or more at hand until a marker or the end.
class ScanChecker::Bits {
public:
    explicit Bits(std::span<const uint8_t> data) : at_(data.data()), end_(data.data() + data.size()) {}

    void refill() {
        if (count_ >= 32) return;  // enough for a code of 16 bits and its value of 15
        if (end_ - at_ >= 8) {
            uint64_t word;
            std::memcpy(&word, at_, 8);
            const uint64_t inverted = ~word;
            if (((inverted - 0x0101010101010101u) & ~inverted & 0x8080808080808080u) == 0) {  // no byte is 0xff
                if constexpr (std::endian::native == std::endian::little) word = __builtin_bswap64(word);
                buffer_ |= word >> count_;
                at_ += (63 - count_) >> 3;
                count_ |= 56;
                return;
            }
        }
        while (count_ <= 56 && at_ < end_) {
            if (*at_ == 0xff && (end_ - at_ < 2 || at_[1] != 0)) return;  // a marker
            buffer_ |= static_cast<uint64_t>(*at_) << (56 - count_);
            at_ += *at_ == 0xff ? 2 : 1;
            count_ += 8;
        }
    }

    uint32_t peek(int bits) const { return static_cast<uint32_t>(buffer_ >> (64 - bits)); }
    void drop(int bits) {
        buffer_ <<= bits;
        count_ -= bits;
    }
    bool overdrawn() const { return count_ < 0; }

    // Passes over the padding and the marker that must come here.
    bool take_marker(uint8_t marker) {
        if (count_ < 0 || count_ >= 8 || end_ - at_ < 2 || at_[0] != 0xff || at_[1] != marker) return false;
        at_ += 2;
        buffer_ = 0;
        count_ = 0;
        return true;
    }

private:
    uint64_t buffer_ = 0;  // the next bit is the highest; below `count_` bits come copies of the following, or zeros
    int count_ = 0;
    const uint8_t* at_;
    const uint8_t* end_;
};

bool ScanChecker::Table::build(const HuffmanCodes& codes, bool is_dc) {
    if (codes.bits == nullptr) return false;
    std::memcpy(symbols.data(), codes.symbols, symbols.size());
    one.fill({});
    int32_t code = 0, index = 0;
    limit[0] = 0;
    for (int length = 1; length <= 16; ++length) {
        offset[static_cast<size_t>(length)] = code - index;
        for (int i = 0; i < codes.bits[length]; ++i, ++code, ++index) {
            if (index >= 256 || code >= (1 << length)) return false;
            const uint8_t symbol = symbols[static_cast<size_t>(index)];
            const int size = symbol & 15, run = symbol >> 4;
            if (is_dc && symbol > 15) return false;
            if (length > window) continue;
            const bool ends = !is_dc && size == 0 && run != 15;
            const Step step{static_cast<uint8_t>(length + size), static_cast<uint8_t>(ends ? 0 : run + 1), ends,
                            static_cast<uint8_t>(length)};
            for (int rest = 0; rest < 1 << (window - length); ++rest)
                one[static_cast<size_t>((code << (window - length)) + rest)] = step;
        }
        limit[static_cast<size_t>(length)] = code << (16 - length);
        code <<= 1;
    }
    if (is_dc) return true;
    for (size_t w = 0; w < one.size(); ++w) {
        Step all = one[w];
        while (all.bits > 0 && all.bits < window && !all.ends_block) {
            const Step next = one[(w << all.bits) & (one.size() - 1)];
            // Zeros were shifted in: only a code that lies before them is one. Its value may lie behind.
            if (next.bits == 0 || all.bits + next.code_bits > window || all.advance + next.advance > 63) break;
            all.bits = static_cast<uint8_t>(all.bits + next.bits);
            all.advance = static_cast<uint8_t>(all.advance + next.advance);
            all.ends_block = next.ends_block;
        }
        several[w] = all;
    }
    return true;
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

bool ScanChecker::take_block(Bits& bits, const Table& dc, const Table& ac) {
    bits.refill();
    int symbol = 0;
    if (const Step step = dc.one[bits.peek(window)]; step.bits > 0) {
        bits.drop(step.bits);
    } else {
        if (!take_symbol(bits, dc, symbol)) return false;
        bits.drop(symbol);
    }
    for (int k = 1; k < 64;) {
        bits.refill();
        if (const Step step = ac.several[bits.peek(window)]; step.bits > 0 && k + step.advance <= 63) {
            bits.drop(step.bits);
            if (step.ends_block) break;
            k += step.advance;
            continue;
        }
        if (!take_symbol(bits, ac, symbol)) return false;
        const int size = symbol & 15, run = symbol >> 4;
        bits.drop(size);
        if (size == 0 && run != 15) break;
        k += run + 1;
        if (k > 64) return false;
    }
    return !bits.overdrawn();
}

bool ScanChecker::is_whole(std::span<const uint8_t> data, const Layout& layout) {
    tables_.resize(8);
    for (size_t i = 0; i < layout.num_blocks; ++i) {
        const auto [dc, ac] = layout.blocks[i];
        bool built = true;
        for (size_t k = 0; k < i; ++k) built &= layout.blocks[k] != layout.blocks[i];
        if (built && !(tables_[dc].build(layout.dc[dc], true) && tables_[4 + ac].build(layout.ac[ac], false)))
            return false;
    }
    Bits bits(data);
    uint8_t turn = 0;
    for (size_t mcu = 0; mcu < layout.num_mcus; ++mcu) {
        if (layout.restart_interval > 0 && mcu > 0 && mcu % layout.restart_interval == 0) {
            bits.refill();
            if (!bits.take_marker(static_cast<uint8_t>(0xd0 + turn))) return false;
            turn = (turn + 1) % 8;
        }
        for (size_t i = 0; i < layout.num_blocks; ++i) {
            const auto [dc, ac] = layout.blocks[i];
            if (!take_block(bits, tables_[dc], tables_[static_cast<size_t>(4) + ac])) return false;
        }
    }
    bits.refill();
    return bits.take_marker(0xd9);
}

}  // namespace ffcv
