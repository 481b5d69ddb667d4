#include "checksum.h"

#include <cstddef>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace ffcv {

namespace {

// The instruction takes 3 cycles but starts every cycle: three blocks of a kind are summed side by side, then joined.
constexpr size_t long_block = 4096, short_block = 256;

uint32_t step(const uint32_t (&byte)[256], uint32_t crc, uint8_t value) {
    return (crc >> 8) ^ byte[(crc ^ value) & 0xff];
}

struct Tables {
    uint32_t slice[8][256];       // slice[k][v]: the byte v followed by k zeros
    uint32_t after_long[4][256];  // what `long_block` zeros make of each byte of a sum
    uint32_t after_short[4][256];

    Tables() {
        for (uint32_t v = 0; v < 256; ++v) {
            uint32_t crc = v;
            for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? crc32c_polynomial : 0);
            slice[0][v] = crc;
        }
        for (int k = 1; k < 8; ++k)
            for (uint32_t v = 0; v < 256; ++v) slice[k][v] = step(slice[0], slice[k - 1][v], 0);
        fill(after_long, long_block);
        fill(after_short, short_block);
    }

    void fill(uint32_t (&table)[4][256], size_t zeros) {
        uint32_t bits[32];
        for (int i = 0; i < 32; ++i) {
            bits[i] = uint32_t{1} << i;
            for (size_t n = 0; n < zeros; ++n) bits[i] = step(slice[0], bits[i], 0);
        }
        for (int k = 0; k < 4; ++k)
            for (uint32_t v = 0; v < 256; ++v) {
                table[k][v] = 0;
                for (int i = 0; i < 8; ++i)
                    if (v >> i & 1) table[k][v] ^= bits[8 * k + i];
            }
    }
};

const Tables& tables() {
    static const Tables instance;
    return instance;
}

#if defined(__x86_64__)
uint32_t shifted(const uint32_t (&table)[4][256], uint32_t crc) {
    return table[0][crc & 0xff] ^ table[1][crc >> 8 & 0xff] ^ table[2][crc >> 16 & 0xff] ^ table[3][crc >> 24];
}

__attribute__((target("sse4.2"))) const uint8_t* blocks(const uint8_t* from, size_t& left, uint64_t& crc, size_t block,
                                                        const uint32_t (&after)[4][256]) {
    const auto word = [](const uint8_t* p) {
        uint64_t value;
        std::memcpy(&value, p, 8);
        return value;
    };
    while (left >= 3 * block) {
        uint64_t second = 0, third = 0;
        for (size_t i = 0; i < block; i += 8) {
            crc = _mm_crc32_u64(crc, word(from + i));
            second = _mm_crc32_u64(second, word(from + block + i));
            third = _mm_crc32_u64(third, word(from + 2 * block + i));
        }
        crc = shifted(after, static_cast<uint32_t>(crc)) ^ second;
        crc = shifted(after, static_cast<uint32_t>(crc)) ^ third;
        from += 3 * block;
        left -= 3 * block;
    }
    return from;
}

#endif

uint32_t crc32c_portable(std::span<const uint8_t> bytes, uint32_t start) {
    const auto& slice = tables().slice;
    const uint8_t* from = bytes.data();
    size_t left = bytes.size();
    uint32_t crc = ~start;
    for (; left >= 8; from += 8, left -= 8) {
        const uint32_t low =
            crc ^ (from[0] | uint32_t{from[1]} << 8 | uint32_t{from[2]} << 16 | uint32_t{from[3]} << 24);
        crc = slice[7][low & 0xff] ^ slice[6][low >> 8 & 0xff] ^ slice[5][low >> 16 & 0xff] ^ slice[4][low >> 24] ^
              slice[3][from[4]] ^ slice[2][from[5]] ^ slice[1][from[6]] ^ slice[0][from[7]];
    }
    for (; left > 0; ++from, --left) crc = step(slice[0], crc, *from);
    return ~crc;
}

}  // namespace

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(std::span<const uint8_t> bytes, uint32_t start) {
    const uint8_t* from = bytes.data();
    size_t left = bytes.size();
    uint64_t crc = ~start;
    from = blocks(from, left, crc, long_block, tables().after_long);
    from = blocks(from, left, crc, short_block, tables().after_short);
    for (; left >= 8; from += 8, left -= 8) {
        uint64_t word;
        std::memcpy(&word, from, 8);
        crc = _mm_crc32_u64(crc, word);
    }
    for (; left > 0; ++from, --left) crc = _mm_crc32_u8(static_cast<uint32_t>(crc), *from);
    return ~static_cast<uint32_t>(crc);
}
#endif

std::span<const Crc32cWay> crc32c_ways() {
#if defined(__x86_64__)
    static constexpr Crc32cWay ways[] = {
        {"folding", crc32c_folding}, {"instruction", crc32c_sse42}, {"portable", crc32c_portable}};
    static const size_t first = [] {
        if (!__builtin_cpu_supports("sse4.2")) return 2;
        const bool folds = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq") &&
                           __builtin_cpu_supports("pclmul");
        return folds ? 0 : 1;
    }();
    return std::span(ways).subspan(first);
#else
    static constexpr Crc32cWay ways[] = {{"portable", crc32c_portable}};
    return ways;
#endif
}

uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc) {
    static const auto sum = crc32c_ways().front().sum;
    return sum(bytes, crc);
}

}  // namespace ffcv
