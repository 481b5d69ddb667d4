// CRC32C by carry-less multiplication, 256 bytes a step: three times the rate of the crc32 instruction.
//
// A checksum is a remainder modulo the polynomial P, of a message whose bits are coefficients. Sixteen bytes that lie d
// bits before others count x^d times as much, so (x^d mod P) times the former, added to the latter, keeps the
// remainder: the message becomes shorter by those sixteen bytes. Sixteen such places are kept side by side, four in a
// register.
#include "checksum.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>

namespace ffcv {

namespace {

// x^n mod P, its bits in the polynomial's order.
constexpr uint32_t power_of_x(int n) {
    uint32_t remainder = uint32_t{1} << 31;  // x^0
    for (int i = 0; i < n; ++i) remainder = (remainder >> 1) ^ ((remainder & 1) ? crc32c_polynomial : 0);
    return remainder;
}

// What the two halves of sixteen bytes are multiplied by when they move by some bits.
struct Factors {
    long long first, second;
};

// The first half lies 64 bits further from the end. A product of two halves has 127 bits, and in this order of bits its
// place among 128 is that of x times the product; hence one less than the distance.
constexpr Factors moving_by(int bits) {
    const auto factor = [](int distance) {
        return static_cast<long long>(uint64_t{power_of_x(distance - 1)} << 32);  // 32 bits, at the end of 64
    };
    return {factor(bits + 64), factor(bits)};
}

#define FFCV_FOLDING __attribute__((target("avx512f,vpclmulqdq,pclmul,sse4.2")))

FFCV_FOLDING inline __m128i pair(Factors factors) { return _mm_set_epi64x(factors.second, factors.first); }

FFCV_FOLDING inline __m512i pairs(Factors factors) { return _mm512_broadcast_i32x4(pair(factors)); }

// `from`, moved onto `onto`.
FFCV_FOLDING inline __m512i folded(__m512i from, __m512i factors, __m512i onto) {
    constexpr int exclusive_or_of_three = 0x96;
    return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(from, factors, 0x00),
                                     _mm512_clmulepi64_epi128(from, factors, 0x11), onto, exclusive_or_of_three);
}

FFCV_FOLDING inline __m128i folded(__m128i from, Factors factors, __m128i onto) {
    const __m128i first = _mm_clmulepi64_si128(from, pair(factors), 0x00);
    const __m128i second = _mm_clmulepi64_si128(from, pair(factors), 0x11);
    return _mm_xor_si128(_mm_xor_si128(first, second), onto);
}

// The four places of a register as one.
FFCV_FOLDING inline __m128i joined(__m512i places) {
    constexpr Factors by_three = moving_by(3 * 128), by_two = moving_by(2 * 128), by_one = moving_by(128);
    __m128i sum = _mm512_extracti32x4_epi32(places, 3);
    sum = folded(_mm512_extracti32x4_epi32(places, 0), by_three, sum);
    sum = folded(_mm512_extracti32x4_epi32(places, 1), by_two, sum);
    return folded(_mm512_extracti32x4_epi32(places, 2), by_one, sum);
}

}  // namespace

FFCV_FOLDING uint32_t crc32c_folding(std::span<const uint8_t> bytes, uint32_t crc) {
    constexpr size_t step = 256, one = 64;
    if (bytes.size() < step) return crc32c_sse42(bytes, crc);
    const uint8_t* from = bytes.data();
    const uint8_t* const end = from + bytes.size();
    const auto left = [&] { return static_cast<size_t>(end - from); };

    // What comes before is added to the first four bytes.
    __m512i sums[4];
    for (size_t i = 0; i < 4; ++i) sums[i] = _mm512_loadu_si512(from + one * i);
    sums[0] = _mm512_xor_si512(sums[0], _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(~crc))));
    const __m512i by_step = pairs(moving_by(8 * step));
    for (from += step; left() >= step; from += step)
        for (size_t i = 0; i < 4; ++i) sums[i] = folded(sums[i], by_step, _mm512_loadu_si512(from + one * i));

    const __m512i by_one = pairs(moving_by(8 * one));
    __m512i sum = sums[0];
    for (size_t i = 1; i < 4; ++i) sum = folded(sum, by_one, sums[i]);
    for (; left() >= one; from += one) sum = folded(sum, by_one, _mm512_loadu_si512(from));

    const __m128i last = joined(sum);  // the remainder of these sixteen bytes is that of all before `from`
    uint64_t remainder = _mm_crc32_u64(0, static_cast<uint64_t>(_mm_cvtsi128_si64(last)));
    remainder = _mm_crc32_u64(remainder, static_cast<uint64_t>(_mm_extract_epi64(last, 1)));
    return crc32c_sse42({from, left()}, ~static_cast<uint32_t>(remainder));
}

}  // namespace ffcv
#endif
