// The arrays that Python and the core exchange.
#pragma once
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace ffcv {

template <class T, class Shape>
using Array = nanobind::ndarray<T, Shape, nanobind::c_contig, nanobind::device::cpu>;
using Bytes = Array<const uint8_t, nanobind::shape<-1>>;
using WritableBytes = Array<uint8_t, nanobind::shape<-1>>;

inline std::span<const uint8_t> span_of(const Bytes& bytes) { return {bytes.data(), bytes.size()}; }

// Room for `size` elements of T, and what frees it with the array that is made of it.
template <class T>
std::pair<T*, nanobind::capsule> allocate(size_t size) {
    T* const data = new T[size];
    return {data, nanobind::capsule(data, [](void* p) noexcept { delete[] static_cast<T*>(p); })};
}

}  // namespace ffcv
