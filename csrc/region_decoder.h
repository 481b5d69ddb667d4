// Regions of sequential JPEGs: the pixels of libjpeg-turbo, without the work for what lies outside.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "entry_points.h"
#include "huffman.h"
#include "jpeg.h"
#include "kernels/mcu.h"
#include "scan.h"

struct jpeg_decompress_struct;

namespace ffcv {

// Decodes what most photographs are: 8 bits, sequential, Huffman-coded, one scan, grey or YCbCr with chroma at full
// resolution, halved across, or halved both ways. Everything else, damaged data included, it declines, and
// libjpeg-turbo judges. Not thread-safe: one per thread, reused for every image of that thread.
class RegionDecoder {
public:
    // The pixels in `wanted` (within the image), in `buffer`, which grows as needed; or nothing: libjpeg-turbo has to
    // decode this one. `info` is in the state after jpeg_read_header and stays in it. `points` may be null.
    std::optional<Pixels> decode(const jpeg_decompress_struct& info, const Region& wanted, const EntryPoints* points,
                                 std::vector<uint8_t>& buffer);

    // True if the scan that follows is the only one and surely without damage. Then `points`, if given, are those from
    // which parts of it can be decoded, packed for a JPEG of `jpeg_size` bytes; none where it has to be read from the
    // beginning anyway.
    bool is_whole(const jpeg_decompress_struct& info, size_t jpeg_size, std::vector<uint8_t>* points);

private:
    struct Component {
        int across, down;   // blocks in an MCU
        int width, height;  // samples of the whole image
        uint8_t* plane;     // the samples of the decoded MCUs
        size_t stride;      // between rows of `plane`
        Quantizers quantizers;
        const HuffmanLookup *dc, *ac;
    };

    bool read_scan(const jpeg_decompress_struct& info, bool with_values);
    bool read_samples(const jpeg_decompress_struct& info);
    const HuffmanLookup* table(const jpeg_decompress_struct& info, int number, bool is_dc, bool with_values);
    Mcu make_mcu(int row);
    void place_blocks(Mcu& mcu, int row) const;
    bool choose_mcus(const Region& wanted);
    uint8_t* row_of(const Component& c, int y, int first, int count) const;
    void convert_rows(const Region& wanted, Range rows, const std::array<uint8_t*, 3>& planes, size_t stride);

    std::array<std::unique_ptr<HuffmanTable>, 8> tables_;  // DC tables by number, then AC tables
    std::array<Component, 4> components_;
    int num_components_ = 0;
    Scan::Layout layout_{};
    Scan scan_;
    Range rows_{}, columns_{};  // of the MCUs that are decoded
    std::vector<uint8_t> planes_, row_scratch_;
};

}  // namespace ffcv
