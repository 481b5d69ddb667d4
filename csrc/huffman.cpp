#include "huffman.h"

#include <algorithm>
#include <cstring>

namespace ffcv {

using Entry = HuffmanLookup::Entry;
using Step = HuffmanLookup::Step;

namespace {

// The entry of one coefficient, and then of another one or the end.
Entry joined(Entry entry, const Entry& more) {
    if (more.advance < HuffmanLookup::end_of_block) {
        entry.place[1] = static_cast<uint8_t>(entry.advance + more.place[0]);
        entry.values[1] = {static_cast<uint8_t>(more.values[0].shift - entry.bits), more.values[0].size};
    }
    entry.bits = static_cast<uint8_t>(entry.bits + more.bits);
    entry.advance = static_cast<uint8_t>(entry.advance + more.advance);
    return entry;
}

}  // namespace

const HuffmanLookup* HuffmanTable::make(const uint8_t* code_counts, const uint8_t* symbols, bool is_dc,
                                        bool with_values) {
    const bool is_same = is_known_ && std::equal(code_counts_.begin() + 1, code_counts_.end(), code_counts + 1) &&
                         std::equal(symbols, symbols + 256, lookup_.symbols);
    if (!is_same) {
        std::copy_n(code_counts, code_counts_.size(), code_counts_.begin());
        std::copy_n(symbols, 256, lookup_.symbols);
        is_known_ = true;
        has_values_ = false;
        is_valid_ = number_codes(is_dc);
        if (is_valid_ && is_dc) make_dc();
        if (is_valid_ && !is_dc) make_steps(lookup_.steps, HuffmanLookup::skip_window, HuffmanLookup::no_step);
    }
    if (!is_valid_) return nullptr;
    if (with_values && !has_values_ && !is_dc) {
        constexpr uint8_t nowhere = HuffmanLookup::nowhere;
        make_entries(lookup_.entries, HuffmanLookup::window, {0, HuffmanLookup::longer, {nowhere, nowhere}, {}}, 0);
        has_values_ = true;
    }
    return &lookup_;
}

// Gives the codes their numbers; false where they do not fit.
bool HuffmanTable::number_codes(bool is_dc) {
    int code = 0, index = 0;
    lookup_.limit[0] = 0;
    for (int length = 1; length <= 16; ++length, code <<= 1) {
        lookup_.offset[length] = code - index;
        code += code_counts_[static_cast<size_t>(length)];
        index += code_counts_[static_cast<size_t>(length)];
        if (index > 256 || code > (1 << length) - 1) return false;  // the code of all ones is reserved
        lookup_.limit[length] = code << (16 - length);
    }
    return std::all_of(lookup_.symbols, lookup_.symbols + index,
                       [&](int symbol) { return (is_dc ? symbol : symbol & 15) <= HuffmanLookup::largest_size; });
}

// What follows `before`, which leaves `room` bits of the window: steps [1 << room]. A code whose value ends in the
// window is followed by the next code, whatever the value is.
void HuffmanTable::make_steps(Step* to, int room, Step before) {
    const bool is_first = before == HuffmanLookup::no_step;
    std::fill_n(to, size_t{1} << room, before);
    const int bits = is_first ? 0 : HuffmanLookup::bits_of(before);
    const int passed = is_first ? 0 : HuffmanLookup::passed_by(before);
    int code = 0;
    const uint8_t* symbol = lookup_.symbols;
    for (int length = 1; length <= room; ++length, code <<= 1)
        for (int i = 0; i < code_counts_[static_cast<size_t>(length)]; ++i, ++code, ++symbol) {
            const Entry entry = huffman_entry(length, *symbol, false);
            const int advance = entry.advance;
            const bool ends = advance == HuffmanLookup::end_of_block;
            if (!ends && passed + advance > 63) continue;
            const int used = entry.bits, left = room - used;
            const Step step = HuffmanLookup::step(bits + used, passed + advance);
            Step* const place = to + (code << (room - length));
            if (ends || left <= 0) {
                std::fill_n(place, size_t{1} << (room - length), step);
                continue;
            }
            make_steps(place, left, step);
            const size_t block = size_t{1} << left;
            for (size_t value = 1; value < size_t{1} << (used - length); ++value)
                std::copy_n(place, block, place + value * block);
        }
}

void HuffmanTable::make_dc() {
    constexpr int window = HuffmanLookup::dc_window;
    std::fill_n(lookup_.dc, 1 << window, Entry{});
    int code = 0;
    const uint8_t* symbol = lookup_.symbols;
    for (int length = 1; length <= window; ++length, code <<= 1)
        for (int i = 0; i < code_counts_[static_cast<size_t>(length)]; ++i, ++code, ++symbol)
            std::fill_n(lookup_.dc + (static_cast<size_t>(code) << (window - length)), 1 << (window - length),
                        huffman_entry(length, *symbol, true));
}

// The same as make_steps() for entries; `before` holds so many coefficients.
void HuffmanTable::make_entries(Entry* to, int room, const Entry& before, int coefficients) {
    std::fill_n(to, size_t{1} << room, before);
    int code = 0;
    const uint8_t* symbol = lookup_.symbols;
    for (int length = 1; length <= room; ++length, code <<= 1)
        for (int i = 0; i < code_counts_[static_cast<size_t>(length)]; ++i, ++code, ++symbol) {
            Entry entry = huffman_entry(length, *symbol, false);
            const bool ends = entry.advance == HuffmanLookup::end_of_block;
            if (!ends && coefficients == 2) continue;
            const int left = room - entry.bits;
            const size_t values = size_t{1} << entry.values[0].size;
            if (coefficients > 0) entry = joined(before, entry);
            Entry* const place = to + (code << (room - length));
            if (ends || left <= 0) {
                std::fill_n(place, size_t{1} << (room - length), entry);
                continue;
            }
            make_entries(place, left, entry, coefficients + 1);
            const size_t block = size_t{1} << left;
            for (size_t value = 1; value < values; ++value) std::copy_n(place, block, place + value * block);
        }
}

}  // namespace ffcv
