// JPEG compression by libjpeg-turbo.
#pragma once
#include <cstdint>
#include <memory>
#include <span>

namespace ffcv {

// Rows of grey or RGB pixels without gaps between them.
struct PixelRows {
    const uint8_t* data;
    int height, width;
    int components;  // 1 or 3
};

// Writes what Pillow's `save` writes, byte for byte: baseline JPEG with a JFIF header and the standard's Huffman
// tables. Not thread-safe: one per thread, reused for every image of that thread.
class JpegEncoder {
public:
    JpegEncoder();
    ~JpegEncoder();
    JpegEncoder(const JpegEncoder&) = delete;
    JpegEncoder& operator=(const JpegEncoder&) = delete;

    // The file's bytes, valid until the next call. `quality`: 1 to 100, as libjpeg counts it; `halve_chroma`: 4:2:0,
    // else 4:4:4. Throws std::invalid_argument for sides that JPEG has no room for.
    std::span<const uint8_t> encode(const PixelRows& pixels, int quality, bool halve_chroma);

private:
    struct Handle;
    std::unique_ptr<Handle> handle_;
};

}  // namespace ffcv
