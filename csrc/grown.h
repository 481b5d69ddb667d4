// Scratch memory that is kept from image to image.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ffcv {

// At least `bytes` of `buffer`; what they hold is undefined.
inline uint8_t* grown(std::vector<uint8_t>& buffer, size_t bytes) {
    if (buffer.size() < bytes) buffer.resize(bytes);
    return buffer.data();
}

}  // namespace ffcv
