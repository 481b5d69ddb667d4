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

// widen, narrow: between bytes and wider numbers within 0..255; narrow_clamped: from any number.
// interleave_low, interleave_high, join: two vectors of words pair by pair (in an order that instruction sets choose),
// so that multiply_pairs adds up each pair's products; join undoes the order. Written with intrinsics where compilers
// make several instructions of one.
#if defined(__AVX512F__)
inline Ints widen(Bytes x) { return (Ints)_mm512_cvtepu8_epi32((__m128i)x); }
inline Bytes narrow(Ints x) { return (Bytes)_mm512_cvtepi32_epi8((__m512i)x); }
inline Bytes narrow_clamped(Ints x) {
    return (Bytes)_mm512_cvtusepi32_epi8(_mm512_max_epi32((__m512i)x, _mm512_setzero_si512()));
}
inline WideBytes narrow(Words x) { return (WideBytes)_mm512_cvtepi16_epi8((__m512i)x); }
inline Words interleave_low(Words a, Words b) { return (Words)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b); }
inline Words interleave_high(Words a, Words b) { return (Words)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b); }
inline Words join(Ints low, Ints high) { return (Words)_mm512_packs_epi32((__m512i)low, (__m512i)high); }
inline Ints multiply_pairs(Words a, Words b) { return (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm512_min_ps((__m512)a, (__m512)b); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
inline Floats truncate(Floats x) {
    return (Floats)_mm512_roundscale_ps((__m512)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
#elif defined(__AVX2__)
inline Ints widen(Bytes x) { return (Ints)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)x)); }
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
inline Words join(Ints low, Ints high) { return (Words)_mm256_packs_epi32((__m256i)low, (__m256i)high); }
inline Ints multiply_pairs(Words a, Words b) { return (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm256_min_ps((__m256)a, (__m256)b); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
inline Floats truncate(Floats x) { return (Floats)_mm256_round_ps((__m256)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#elif defined(__SSE4_1__)
inline Ints widen(Bytes x) { return (Ints)_mm_cvtepu8_epi32(_mm_cvtsi32_si128((int32_t)x)); }
inline WideBytes narrow(Words x) { return (WideBytes)_mm_cvtsi128_si64(_mm_packus_epi16((__m128i)x, (__m128i)x)); }
inline Bytes narrow_clamped(Ints x) {
    const __m128i words = _mm_packs_epi32((__m128i)x, (__m128i)x);
    return (Bytes)_mm_cvtsi128_si32(_mm_packus_epi16(words, words));
}
inline Bytes narrow(Ints x) { return narrow_clamped(x); }
inline Words interleave_low(Words a, Words b) { return (Words)_mm_unpacklo_epi16((__m128i)a, (__m128i)b); }
inline Words interleave_high(Words a, Words b) { return (Words)_mm_unpackhi_epi16((__m128i)a, (__m128i)b); }
inline Words join(Ints low, Ints high) { return (Words)_mm_packs_epi32((__m128i)low, (__m128i)high); }
inline Ints multiply_pairs(Words a, Words b) { return (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm_min_ps((__m128)a, (__m128)b); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm_max_ps((__m128)a, (__m128)b); }
inline Floats truncate(Floats x) { return (Floats)_mm_round_ps((__m128)x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC); }
#else
inline Ints widen(Bytes x) { return __builtin_convertvector(x, Ints); }
inline Bytes narrow(Ints x) { return __builtin_convertvector(x, Bytes); }
inline WideBytes narrow(Words x) { return __builtin_convertvector(x, WideBytes); }
inline Bytes narrow_clamped(Ints x) {
    x = x < 0 ? Ints{} : x;
    return narrow(x > 255 ? Ints{} + 255 : x);
}
inline Words interleave_low(Words a, Words b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline Words interleave_high(Words a, Words b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
inline Words join(Ints low, Ints high) {
    const Vector<int32_t, 8> both = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_convertvector(both, Words);
}
inline Ints multiply_pairs(Words a, Words b) {
    const Vector<int32_t, 8> products =
        __builtin_convertvector(a, Vector<int32_t, 8>) * __builtin_convertvector(b, Vector<int32_t, 8>);
    return __builtin_shufflevector(products, products, 0, 2, 4, 6) +
           __builtin_shufflevector(products, products, 1, 3, 5, 7);
}
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats truncate(Floats x) { return __builtin_convertvector(__builtin_convertvector(x, Ints), Floats); }
#endif

inline Floats to_float(Ints x) { return __builtin_convertvector(x, Floats); }
inline Ints to_int(Floats x) { return __builtin_convertvector(x, Ints); }

template <class V>
inline void store(void* to, V value) {
    __builtin_memcpy(to, &value, sizeof value);
}

}  // namespace
}  // namespace FFCV_ISA
}  // namespace ffcv
