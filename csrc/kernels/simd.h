// Vectors of fixed length that the compiler maps to whatever registers the instruction set has. Used where a sum has to
// stay in registers over a loop; loops without such sums are plain.
#pragma once
#include <stddef.h>
#include <stdint.h>

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

// Between bytes and 32-bit numbers, by way of 16 bits: compilers have instructions for either step.
template <int N>
inline Vector<int32_t, N> widen(Vector<uint8_t, N> bytes) {
    return __builtin_convertvector(__builtin_convertvector(bytes, Vector<int16_t, N>), Vector<int32_t, N>);
}
template <int N>
inline Vector<uint8_t, N> narrow(Vector<int32_t, N> numbers) {
    return __builtin_convertvector(__builtin_convertvector(numbers, Vector<int16_t, N>), Vector<uint8_t, N>);
}

template <int N>
inline Vector<uint8_t, N> narrow_clamped(Vector<int32_t, N> numbers) {
    numbers = numbers < 0 ? Vector<int32_t, N>{} : numbers;
    return narrow<N>(numbers > 255 ? Vector<int32_t, N>{} + 255 : numbers);
}

template <class V>
inline void store(void* to, V value) {
    __builtin_memcpy(to, &value, sizeof value);
}

}  // namespace
}  // namespace FFCV_ISA
}  // namespace ffcv
