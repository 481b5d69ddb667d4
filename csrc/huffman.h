// Huffman tables of JPEGs, made ready for the kernels and kept from image to image: many files share the standard's.
#pragma once
#include <array>
#include <cstdint>

#include "kernels/mcu.h"

namespace ffcv {

class HuffmanTable {
public:
    HuffmanTable() {}  // the lookup is not set to zeros

    // The table of `code_counts` [17] (from 1, codes of so many bits) and `symbols` [256], in the order of codes; null
    // if there is none such. `with_values`: for decoding, and not only for passing over.
    const HuffmanLookup* make(const uint8_t* code_counts, const uint8_t* symbols, bool is_dc, bool with_values);

private:
    bool number_codes(bool is_dc);
    void make_steps(HuffmanLookup::Step* to, int room, HuffmanLookup::Step before);
    void make_dc();
    void make_entries(HuffmanLookup::Entry* to, int room, const HuffmanLookup::Entry& before, int coefficients);

    std::array<uint8_t, 17> code_counts_;
    bool is_known_ = false, is_valid_ = false, has_values_ = false;
    HuffmanLookup lookup_;
};

}  // namespace ffcv
