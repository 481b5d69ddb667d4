// What the kernels need to decode MCUs (minimum coded units) of sequential Huffman-coded JPEGs: plain data.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace ffcv {

// A Huffman table that is made for looking several bits up at once.
struct HuffmanLookup {
    static constexpr int dc_window = 9, window = 11, skip_window = 12;  // bits that are looked up
    static constexpr int end_of_block = 128;                            // counts as so many coefficients
    static constexpr int longer = 255;       // and more than that: a code that is longer than the window
    static constexpr int nowhere = 64 + 16;  // a distance from which no coefficient of a block can be reached

    static constexpr int largest_size = 11;  // of a value, in bits: more has no JPEG of 8 bits

    // What the next bits say: up to two coefficients and the end of the block, as far as their codes lie in the window.
    // Of bytes, which are loaded one by one: cheaper than to take a register apart.
    struct alignas(8) Entry {
        struct Value {
            uint8_t shift, size;  // how many bits follow it in a buffer of 64, and its own
        };
        uint8_t bits;      // of all codes and values; 0 if the first code is longer than the window
        uint8_t advance;   // by how many coefficients it goes on; `longer` if the first code is
        uint8_t place[2];  // how many coefficients further the two are, or `nowhere`
        Value values[2];
    };

    Entry entries[1 << window];  // AC only
    Entry dc[1 << dc_window];    // DC only, one coefficient each

    // To pass over AC coefficients, as many as have their codes in the window: the bits of codes and values, and above
    // them by how many coefficients it goes on, with `end_of_block` added by the code that says so.
    using Step = uint16_t;
    static constexpr Step step(int bits, int passed) { return static_cast<Step>(passed << 6 | bits); }
    [[gnu::always_inline]] static constexpr int bits_of(Step step) { return step & 63; }
    [[gnu::always_inline]] static constexpr int passed_by(Step step) { return step >> 6; }
    static constexpr Step no_step = 64 << 6;  // the first code is longer than the window

    Step steps[1 << skip_window];  // AC only

    // For longer codes: those of up to i bits are below limit[i], left-aligned in 16 bits; the symbol of a code of i
    // bits is symbols[code - offset[i]].
    int32_t limit[18];
    int32_t offset[17];
    uint8_t symbols[256];
};

// The entry of a code of `length` bits.
[[gnu::always_inline]] inline HuffmanLookup::Entry huffman_entry(int length, int symbol, bool is_dc) {
    constexpr uint8_t nowhere = HuffmanLookup::nowhere;
    const int size = is_dc ? symbol : symbol & 15, zeros = is_dc ? 0 : symbol >> 4, bits = length + size;
    const bool ends = !is_dc && size == 0 && zeros != 15;
    return {static_cast<uint8_t>(bits),
            static_cast<uint8_t>(ends ? HuffmanLookup::end_of_block : zeros + 1),
            {ends ? nowhere : static_cast<uint8_t>(zeros), nowhere},
            {{static_cast<uint8_t>(64 - bits), static_cast<uint8_t>(size)}, {}}};
}

// Entropy-coded data without stuffed zeros and markers. Behind `end` lie `padding` readable bytes.
struct EntropyBits {
    static constexpr size_t padding = 4096;  // more than any MCU takes

    const uint8_t* at;
    const uint8_t* end;
    uint64_t buffer;  // the next bit is the highest; `count` bits of it are valid
    int count;
};

// A component's quantizers, at most `largest_coefficient` each.
struct Quantizers {
    alignas(64) int16_t factors[64];
    int16_t limits[64];  // how large the number may be that is multiplied

    // Where the coefficient is: pairs of rows 0 and 4, 2 and 6, 1 and 5, 3 and 7, and columns in the same order, as the
    // DCT needs them.
    static constexpr int place(int row, int column) {
        constexpr int order[8] = {0, 4, 2, 6, 1, 5, 3, 7};  // its own inverse
        return 16 * (order[row] / 2) + 2 * order[column] + order[row] % 2;
    }
};

// Beyond this, implementations of the DCT overflow in different ways; no encoder writes such coefficients.
inline constexpr int32_t largest_coefficient = (1 << 14) - 1;

// One block of every MCU.
struct McuBlock {
    const HuffmanLookup* dc;
    const HuffmanLookup* ac;
    const Quantizers* quantizers;
    int32_t* prediction;  // the component's last DC coefficient
    uint8_t* out;         // where the next MCU's block goes
    size_t stride;        // between rows of `out`
    size_t step;          // between MCUs in `out`
};

struct Mcu {
    static constexpr int max_blocks = 10;  // the standard's
    McuBlock blocks[max_blocks];
    int num_blocks;
};

}  // namespace ffcv
