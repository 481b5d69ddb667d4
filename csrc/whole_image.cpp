#include "whole_image.h"

#include <algorithm>
#include <utility>

#include "grown.h"
#include "kernels/kernels.h"

namespace ffcv {

namespace {

constexpr size_t kept_bytes = 64 << 20;  // of buffers, from one image to the next

size_t area_of(int height, int width) { return static_cast<size_t>(height) * static_cast<size_t>(width); }

// Rounded down as in the original, but in whole numbers, where the longer side cannot lose a pixel.
int shrunk(int side, int longer, int max_side) {
    return static_cast<int>(std::max(1LL, static_cast<long long>(side) * max_side / longer));
}

}  // namespace

Image ImageMaker::decode(std::span<const uint8_t> jpeg, int max_side, JpegDecoder::Engine engine) {
    const JpegHeader header = decoder_.read_header(jpeg);
    const Region whole{0, 0, header.height, header.width};
    Image image = shrink(decoder_.decode(jpeg, header.height, header.width, whole, decoded_, {}, engine), max_side);
    if (decoded_.size() > kept_bytes) std::vector<uint8_t>().swap(decoded_);
    return image;
}

Image ImageMaker::shrink(const Pixels& source, int max_side) {
    const Region& whole = source.region;
    const int longer = std::max(whole.height, whole.width);
    const bool fits = longer <= max_side;
    const int height = fits ? whole.height : shrunk(whole.height, longer, max_side);
    const int width = fits ? whole.width : shrunk(whole.width, longer, max_side);
    Image image{height, width, std::make_unique_for_overwrite<uint8_t[]>(3 * area_of(height, width))};
    const Canvas out{image.pixels.get(), height, width, PixelLayout::interleaved};
    if (fits)
        kernels().copy_pixels(source.at(whole.top, whole.left), false, out);
    else
        resampler_.resize(source, whole, Interpolation::area, false, out);
    return image;
}

}  // namespace ffcv
