// Buffers that are kept from image to image.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ffcv {

// The buffer's memory, of at least `bytes`; what it held is kept. It never shrinks.
inline uint8_t* grown(std::vector<uint8_t>& buffer, size_t bytes) {
    if (buffer.size() < bytes) buffer.resize(bytes);
    return buffer.data();
}

}  // namespace ffcv
