// JPEG decoding: libjpeg-turbo and a faster decoder of what most files are, regions, errors as exceptions.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace ffcv {

struct Region {
    int top = 0, left = 0, height = 0, width = 0;
};

// The pixels of a region of an image.
struct Pixels {
    Rgb rgb{};  // from the region's corner on
    Region region;

    static Pixels interleaved(const uint8_t* data, size_t stride, const Region& region) {
        return {{{data, data + 1, data + 2}, stride, PixelLayout::interleaved}, region};
    }

    // From row `y` and column `x` of the image on.
    Rgb at(int y, int x) const {
        Rgb from = rgb;
        const size_t offset = static_cast<size_t>(y - region.top) * rgb.stride +
                              static_cast<size_t>(x - region.left) * static_cast<size_t>(rgb.layout);
        for (const uint8_t*& channel : from.channels) channel += offset;
        return from;
    }
};

class DecodeError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct JpegHeader {
    int height = 0, width = 0, components = 0;
};

// The release of libjpeg-turbo that this was compiled with, such as "3.1.0".
const char* libjpeg_turbo_version();

// Headers and all that is unusual or damaged are libjpeg-turbo's; the rest is RegionDecoder's. Not thread-safe: one per
// thread, reused for every image of that thread.
class JpegDecoder {
public:
    JpegDecoder();
    ~JpegDecoder();
    JpegDecoder(const JpegDecoder&) = delete;
    JpegDecoder& operator=(const JpegDecoder&) = delete;

    // Who decodes: whoever is faster, or one of them (for tests: the pixels are the same).
    enum class Engine { any, ours, libjpeg };

    JpegHeader read_header(std::span<const uint8_t> bytes);

    // Finds all damage that decoding the whole would find, several times faster. `buffer` is scratch. `points`, if
    // given, becomes the JPEG's packed EntryPoints, or stays empty where it can have none.
    JpegHeader check(std::span<const uint8_t> bytes, std::vector<uint8_t>& buffer,
                     std::vector<uint8_t>* points = nullptr);

    // Decodes at least `wanted` of an image of `height` x `width` pixels into `buffer`, which grows as needed;
    // those inside `wanted` are those of a full decode by libjpeg-turbo. Throws DecodeError for
    // an image of another size and for anything that it would have to guess at. `behind`: what follows the JPEG in its
    // file, and may begin with its EntryPoints.
    Pixels decode(std::span<const uint8_t> bytes, int height, int width, const Region& wanted,
                  std::vector<uint8_t>& buffer, std::span<const uint8_t> behind = {}, Engine engine = Engine::any);

private:
    struct Handle;
    void refuse_unsupported();

    std::unique_ptr<Handle> handle_;
};

}  // namespace ffcv
