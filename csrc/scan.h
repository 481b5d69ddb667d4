// Walks over the Huffman codes of a baseline JPEG without computing a coefficient: is the data whole?
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ffcv {

// A Huffman table as the JPEG standard gives it: bits[i] codes of i bits (1 to 16), and the symbols in order of codes.
struct HuffmanCodes {
    const uint8_t* bits;     // [17]
    const uint8_t* symbols;  // [256]
};

class ScanChecker {
public:
    struct Layout {
        std::array<HuffmanCodes, 4> dc, ac;             // by table number; null where there is none
        std::array<std::array<uint8_t, 2>, 10> blocks;  // of an MCU: numbers of the DC and the AC table
        size_t num_blocks, num_mcus, restart_interval;  // in MCUs; 0 for none
    };

    // True if `data`, which follow the scan's header, hold exactly the codes of all MCUs, the restart markers in turn,
    // and the end marker: then every decoder decodes them without a complaint. False where that is not certain.
    bool is_whole(std::span<const uint8_t> data, const Layout& layout);

private:
    static constexpr int window = 12;  // bits that are looked up at once: two AC tables fit the L1 cache

    // What the next bits mean, in 16 bits: below, how many bits the codes and their values take together; above, how
    // many coefficients they pass, with `ends_block` added by the code that ends the block. AC tables hold as many
    // symbols at a time as begin and end their codes in the window.
    class Step {
    public:
        static constexpr unsigned ends_block = 128;
        constexpr Step() = default;
        constexpr Step(int bits, unsigned passed) : packed_(static_cast<uint16_t>(passed << 6 | unsigned(bits))) {}
        constexpr int bits() const { return packed_ & 63; }
        constexpr unsigned passed() const { return packed_ >> 6; }

    private:
        uint16_t packed_ = 64 << 6;  // no step: the first code is longer than the window
    };
    class Table {
    public:
        bool build(const HuffmanCodes& codes, bool is_dc);  // quick where they are the last image's

        std::array<Step, 1 << window> steps;
        std::array<uint8_t, 256> symbols{};
        std::array<int32_t, 18> limit;   // codes of up to i bits are below limit[i], left-aligned in 16 bits
        std::array<int32_t, 17> offset;  // symbol of a code of i bits: symbols[code - offset[i]]

    private:
        bool fill(bool is_dc);
        void expand(Step* to, int room, Step before, bool is_dc);

        std::array<uint8_t, 17> bits_{};
        bool good_ = false;
    };
    class Bits;

    static bool take_symbol(Bits& bits, const Table& table, int& symbol);
    static bool take_block(Bits& bits, const Table& dc, const Table& ac);
    size_t unstuff(const uint8_t*& at, const uint8_t* end);

    std::array<Table, 4> dc_, ac_;  // by table number
    std::vector<uint8_t> segment_;  // the entropy-coded data between two markers
};

}  // namespace ffcv
