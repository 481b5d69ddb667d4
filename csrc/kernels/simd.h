// Vectors of fixed length that the compiler maps to whatever registers the instruction set has. Used where a sum has to
// stay in registers over a loop; loops without such sums are plain.
#pragma once
#include <stddef.h>
#include <stdint.h>
#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

namespace ffcv {
namespace FFCV_ISA {
namespace {

template <class T, int N>
struct VectorOf {
    typedef T type __attribute__((vector_size(sizeof(T) * N)));
};
template <class T, int N>
using Vector = typename VectorOf<T, N>::type;

// 32-bit numbers in one register.
#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX2__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif

template <class V>
inline V load(const void* from) {
    V value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

using Bytes = Vector<uint8_t, lanes>;
using Ints = Vector<int32_t, lanes>;
using Floats = Vector<float, lanes>;
using Words = Vector<int16_t, 2 * lanes>;
using WideBytes = Vector<uint8_t, 2 * lanes>;
using Longs = Vector<int64_t, lanes / 2>;
using Registered = Vector<uint8_t, 4 * lanes>;  // a register of bytes

// widen, narrow: between bytes and wider numbers within 0..255; narrow_clamped: from any number.
// interleave_low, interleave_high, join: two vectors of words pair by pair (in an order that instruction sets choose),
// so that multiply_pairs adds up each pair's products; join undoes the order, and keeps to 16 bits what exceeds them.
// Within lanes of 128 bits: interleave_low, interleave_high of longer numbers, narrow_join (to bytes, clamped),
// turned_bytes (four by four), turned_triples (of three, four by three). load_windows, shuffled: windows of
// `window_bytes` for every `outputs_a_window` lanes of 32 bits, and bytes out of them by their number in it.
// add_products: to each lane, those of its four bytes with signed bytes. even_lanes, odd_lanes: those of two registers
// in turn. load_both: half a register from each address, or a whole one from the first. Written with intrinsics where
// compilers make several instructions of one.
#if defined(__AVX512F__)
inline Ints widen(Bytes x) { return (Ints)_mm512_cvtepu8_epi32((__m128i)x); }
inline Bytes narrow(Ints x) { return (Bytes)_mm512_cvtepi32_epi8((__m512i)x); }
inline Bytes narrow_clamped(Ints x) {
    return (Bytes)_mm512_cvtusepi32_epi8(_mm512_max_epi32((__m512i)x, _mm512_setzero_si512()));
}
inline Words widen(WideBytes x) { return (Words)_mm512_cvtepu8_epi16((__m256i)x); }
inline WideBytes narrow(Words x) { return (WideBytes)_mm512_cvtepi16_epi8((__m512i)x); }
inline Words interleave_low(Words a, Words b) { return (Words)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b); }
inline Words interleave_high(Words a, Words b) { return (Words)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b); }
inline Words interleave_low(Registered a, Registered b) { return (Words)_mm512_unpacklo_epi8((__m512i)a, (__m512i)b); }
inline Words interleave_high(Registered a, Registered b) { return (Words)_mm512_unpackhi_epi8((__m512i)a, (__m512i)b); }
inline Words high_product(Words a, Words b) { return (Words)_mm512_mulhi_epi16((__m512i)a, (__m512i)b); }
inline Words join(Ints low, Ints high) { return (Words)_mm512_packs_epi32((__m512i)low, (__m512i)high); }
inline Ints multiply_pairs(Words a, Words b) { return (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
inline Ints interleave_low(Ints a, Ints b) { return (Ints)_mm512_unpacklo_epi32((__m512i)a, (__m512i)b); }
inline Ints interleave_high(Ints a, Ints b) { return (Ints)_mm512_unpackhi_epi32((__m512i)a, (__m512i)b); }
inline Ints interleave_low(Longs a, Longs b) { return (Ints)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b); }
inline Ints interleave_high(Longs a, Longs b) { return (Ints)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b); }
inline Ints narrow_join(Words a, Words b) { return (Ints)_mm512_packus_epi16((__m512i)a, (__m512i)b); }
inline Ints turned_bytes(Ints x) {
    return (Ints)_mm512_shuffle_epi8(
        (__m512i)x, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)));
}
inline Ints quarters(Ints x) {
    return __builtin_shufflevector(x, x, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
inline Ints even_lanes(Ints a, Ints b) {
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
}
inline Ints odd_lanes(Ints a, Ints b) {
    return __builtin_shufflevector(a, b, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
}
inline Ints turned_triples(Ints x) {
    return (Ints)_mm512_shuffle_epi8(
        (__m512i)x, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1)));
}
#if defined(__AVX512VBMI__)
constexpr int window_bytes = 64, outputs_a_window = 16;
inline Registered load_windows(const uint8_t* from, Ints at) { return load<Registered>(from + at[0]); }
inline Registered shuffled(Registered bytes, Registered index) {
    return (Registered)_mm512_permutexvar_epi8((__m512i)index, (__m512i)bytes);
}
#else
constexpr int window_bytes = 16, outputs_a_window = 4;
inline Registered load_windows(const uint8_t* from, Ints at) {
    const auto window = [&](int i) { return _mm_loadu_si128((const __m128i*)(from + at[i])); };
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(window(0)), window(1), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(window(2)), window(3), 1);
    return (Registered)_mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}
inline Registered shuffled(Registered bytes, Registered index) {
    return (Registered)_mm512_shuffle_epi8((__m512i)bytes, (__m512i)index);
}
#endif
#if defined(__AVX512VNNI__)
inline Ints add_products(Ints sum, Ints bytes, Ints factors) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)bytes, (__m512i)factors);
}
#endif
inline Words load_both(const int16_t* a, const int16_t* b) {
    const __m512i low = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i*)a));
    return (Words)_mm512_inserti64x4(low, _mm256_loadu_si256((const __m256i*)b), 1);
}
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
inline Floats truncate(Floats x) {
    return (Floats)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
#elif defined(__AVX2__)
inline Ints widen(Bytes x) { return (Ints)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)x)); }
inline Words widen(WideBytes x) { return (Words)_mm256_cvtepu8_epi16((__m128i)x); }
inline WideBytes narrow(Words x) {
    return (WideBytes)_mm_packus_epi16(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
}
inline Bytes narrow_clamped(Ints x) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
    return (Bytes)_mm_cvtsi128_si64(_mm_packus_epi16(words, words));
}
inline Bytes narrow(Ints x) { return narrow_clamped(x); }
inline Words interleave_low(Words a, Words b) { return (Words)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b); }
inline Words interleave_high(Words a, Words b) { return (Words)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b); }
inline Words interleave_low(Registered a, Registered b) { return (Words)_mm256_unpacklo_epi8((__m256i)a, (__m256i)b); }
inline Words interleave_high(Registered a, Registered b) { return (Words)_mm256_unpackhi_epi8((__m256i)a, (__m256i)b); }
inline Words high_product(Words a, Words b) { return (Words)_mm256_mulhi_epi16((__m256i)a, (__m256i)b); }
inline Words join(Ints low, Ints high) { return (Words)_mm256_packs_epi32((__m256i)low, (__m256i)high); }
inline Ints multiply_pairs(Words a, Words b) { return (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
inline Ints interleave_low(Ints a, Ints b) { return (Ints)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b); }
inline Ints interleave_high(Ints a, Ints b) { return (Ints)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b); }
inline Ints interleave_low(Longs a, Longs b) { return (Ints)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b); }
inline Ints interleave_high(Longs a, Longs b) { return (Ints)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b); }
inline Ints narrow_join(Words a, Words b) { return (Ints)_mm256_packus_epi16((__m256i)a, (__m256i)b); }
inline Ints turned_bytes(Ints x) {
    return (Ints)_mm256_shuffle_epi8(
        (__m256i)x, _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)));
}
inline Ints turned_triples(Ints x) {
    return (Ints)_mm256_shuffle_epi8(
        (__m256i)x, _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1)));
}
constexpr int window_bytes = 16, outputs_a_window = 4;
inline Registered load_windows(const uint8_t* from, Ints at) {
    const __m128i low = _mm_loadu_si128((const __m128i*)(from + at[0]));
    return (Registered)_mm256_inserti128_si256(_mm256_castsi128_si256(low),
                                               _mm_loadu_si128((const __m128i*)(from + at[1])), 1);
}
inline Registered shuffled(Registered bytes, Registered index) {
    return (Registered)_mm256_shuffle_epi8((__m256i)bytes, (__m256i)index);
}
inline Ints quarters(Ints x) { return __builtin_shufflevector(x, x, 0, 4, 1, 5, 2, 6, 3, 7); }
inline Ints even_lanes(Ints a, Ints b) { return (Ints)_mm256_permute2x128_si256((__m256i)a, (__m256i)b, 0x20); }
inline Ints odd_lanes(Ints a, Ints b) { return (Ints)_mm256_permute2x128_si256((__m256i)a, (__m256i)b, 0x31); }
inline Words load_both(const int16_t* a, const int16_t*) { return load<Words>(a); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm256_min_ps((__m256)a, (__m256)b); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
inline Floats truncate(Floats x) { return (Floats)_mm256_round_ps((__m256)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#elif defined(__SSE4_1__)
inline Ints widen(Bytes x) { return (Ints)_mm_cvtepu8_epi32(_mm_cvtsi32_si128((int32_t)x)); }
inline Words widen(WideBytes x) { return (Words)_mm_cvtepu8_epi16(_mm_cvtsi64_si128((int64_t)x)); }
inline WideBytes narrow(Words x) { return (WideBytes)_mm_cvtsi128_si64(_mm_packus_epi16((__m128i)x, (__m128i)x)); }
inline Bytes narrow_clamped(Ints x) {
    const __m128i words = _mm_packs_epi32((__m128i)x, (__m128i)x);
    return (Bytes)_mm_cvtsi128_si32(_mm_packus_epi16(words, words));
}
inline Bytes narrow(Ints x) { return narrow_clamped(x); }
inline Words interleave_low(Words a, Words b) { return (Words)_mm_unpacklo_epi16((__m128i)a, (__m128i)b); }
inline Words interleave_high(Words a, Words b) { return (Words)_mm_unpackhi_epi16((__m128i)a, (__m128i)b); }
inline Words interleave_low(Registered a, Registered b) { return (Words)_mm_unpacklo_epi8((__m128i)a, (__m128i)b); }
inline Words interleave_high(Registered a, Registered b) { return (Words)_mm_unpackhi_epi8((__m128i)a, (__m128i)b); }
inline Words high_product(Words a, Words b) { return (Words)_mm_mulhi_epi16((__m128i)a, (__m128i)b); }
inline Words join(Ints low, Ints high) { return (Words)_mm_packs_epi32((__m128i)low, (__m128i)high); }
inline Ints multiply_pairs(Words a, Words b) { return (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b); }
inline Ints interleave_low(Ints a, Ints b) { return (Ints)_mm_unpacklo_epi32((__m128i)a, (__m128i)b); }
inline Ints interleave_high(Ints a, Ints b) { return (Ints)_mm_unpackhi_epi32((__m128i)a, (__m128i)b); }
inline Ints interleave_low(Longs a, Longs b) { return (Ints)_mm_unpacklo_epi64((__m128i)a, (__m128i)b); }
inline Ints interleave_high(Longs a, Longs b) { return (Ints)_mm_unpackhi_epi64((__m128i)a, (__m128i)b); }
inline Ints narrow_join(Words a, Words b) { return (Ints)_mm_packus_epi16((__m128i)a, (__m128i)b); }
inline Ints turned_bytes(Ints x) {
    return (Ints)_mm_shuffle_epi8((__m128i)x, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
}
inline Ints turned_triples(Ints x) {
    return (Ints)_mm_shuffle_epi8((__m128i)x, _mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
}
constexpr int window_bytes = 16, outputs_a_window = 4;
inline Registered load_windows(const uint8_t* from, Ints at) { return load<Registered>(from + at[0]); }
inline Registered shuffled(Registered bytes, Registered index) {
    return (Registered)_mm_shuffle_epi8((__m128i)bytes, (__m128i)index);
}
inline Ints quarters(Ints x) { return x; }
inline Ints even_lanes(Ints a, Ints) { return a; }
inline Ints odd_lanes(Ints, Ints b) { return b; }
inline Words load_both(const int16_t* a, const int16_t*) { return load<Words>(a); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm_min_ps((__m128)a, (__m128)b); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm_max_ps((__m128)a, (__m128)b); }
inline Floats truncate(Floats x) { return (Floats)_mm_round_ps((__m128)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#else
inline Ints widen(Bytes x) { return __builtin_convertvector(x, Ints); }
inline Words widen(WideBytes x) { return __builtin_convertvector(x, Words); }
inline Bytes narrow(Ints x) { return __builtin_convertvector(x, Bytes); }
inline WideBytes narrow(Words x) { return __builtin_convertvector(x, WideBytes); }
inline Bytes narrow_clamped(Ints x) {
    x = x < 0 ? Ints{} : x;
    return narrow(x > 255 ? Ints{} + 255 : x);
}
inline Words interleave_low(Words a, Words b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Words interleave_high(Words a, Words b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
inline Words interleave_low(Registered a, Registered b) {
    return (Words)__builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline Words interleave_high(Registered a, Registered b) {
    return (Words)__builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
inline Words high_product(Words a, Words b) {
    using Wide = Vector<int32_t, 8>;
    return __builtin_convertvector((__builtin_convertvector(a, Wide) * __builtin_convertvector(b, Wide)) >> 16, Words);
}
inline Words join(Ints low, Ints high) {
    Vector<int32_t, 8> both = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
    both = both < -32768 ? Vector<int32_t, 8>{} - 32768 : both;
    both = both > 32767 ? Vector<int32_t, 8>{} + 32767 : both;
    return __builtin_convertvector(both, Words);
}
inline Ints multiply_pairs(Words a, Words b) {
    const Vector<int32_t, 8> products =
        __builtin_convertvector(a, Vector<int32_t, 8>) * __builtin_convertvector(b, Vector<int32_t, 8>);
    return __builtin_shufflevector(products, products, 0, 2, 4, 6) +
           __builtin_shufflevector(products, products, 1, 3, 5, 7);
}
inline Ints interleave_low(Ints a, Ints b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline Ints interleave_high(Ints a, Ints b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
inline Ints interleave_low(Longs a, Longs b) { return (Ints)__builtin_shufflevector(a, b, 0, 2); }
inline Ints interleave_high(Longs a, Longs b) { return (Ints)__builtin_shufflevector(a, b, 1, 3); }
inline Ints narrow_join(Words a, Words b) {
    Vector<int16_t, 16> all = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    all = all < 0 ? Vector<int16_t, 16>{} : all;
    all = all > 255 ? Vector<int16_t, 16>{} + 255 : all;
    return (Ints) __builtin_convertvector(all, Vector<uint8_t, 16>);
}
inline Ints turned_bytes(Ints x) {
    const Vector<uint8_t, 16> bytes = (Vector<uint8_t, 16>)x;
    return (Ints)__builtin_shufflevector(bytes, bytes, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}
inline Ints turned_triples(Ints x) {
    const Vector<uint8_t, 16> bytes = (Vector<uint8_t, 16>)x;
    return (Ints)__builtin_shufflevector(bytes, bytes, 0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 12, 13, 14, 15);
}
constexpr int window_bytes = 0, outputs_a_window = 4;  // no such shuffle
inline Registered load_windows(const uint8_t* from, Ints at) { return load<Registered>(from + at[0]); }
inline Registered shuffled(Registered bytes, Registered) { return bytes; }
inline Ints quarters(Ints x) { return x; }
inline Ints even_lanes(Ints a, Ints) { return a; }
inline Ints odd_lanes(Ints, Ints b) { return b; }
inline Words load_both(const int16_t* a, const int16_t*) { return load<Words>(a); }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats truncate(Floats x) { return __builtin_convertvector(__builtin_convertvector(x, Ints), Floats); }
#endif

inline Words pair(int16_t first, int16_t second) {  // again and again
    Words words;
    for (int i = 0; i < 2 * lanes; i += 2) {
        words[i] = first;
        words[i + 1] = second;
    }
    return words;
}

// sum + multiply_pairs(a, b)
inline Ints add_pair_products(Ints sum, Words a, Words b) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)a, (__m512i)b);
#else
    return sum + multiply_pairs(a, b);
#endif
}

inline Floats to_float(Ints x) { return __builtin_convertvector(x, Floats); }
inline Ints to_int(Floats x) { return __builtin_convertvector(x, Ints); }

template <class V>
inline void store(void* to, V value) {
    __builtin_memcpy(to, &value, sizeof value);
}

}  // namespace
}  // namespace FFCV_ISA
}  // namespace ffcv
