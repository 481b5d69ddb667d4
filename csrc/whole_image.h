// Whole images, for those who store them.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "jpeg.h"
#include "resampler.h"

namespace ffcv {

// Interleaved RGB without gaps: uint8 [height, width, 3].
struct Image {
    int height, width;
    std::unique_ptr<uint8_t[]> pixels;
};

// Makes images whose longer side has at most `max_side` pixels: larger ones are shrunk to area averages. Not
// thread-safe: one per thread, reused for every image of that thread.
class ImageMaker {
public:
    static constexpr int any_side = std::numeric_limits<int>::max();

    // Throws DecodeError for what is not a whole JPEG.
    Image decode(std::span<const uint8_t> jpeg, int max_side, JpegDecoder::Engine engine);

    // The same of the whole region that `source` holds.
    Image shrink(const Pixels& source, int max_side);

private:
    JpegDecoder decoder_;
    Resampler resampler_;
    std::vector<uint8_t> decoded_;
};

}  // namespace ffcv
