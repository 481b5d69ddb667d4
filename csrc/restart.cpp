#include "restart.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "jpeg.h"
#include "jpeg_errors.h"
#include "jpeg_output.h"

namespace ffcv {

namespace {

// The two ends of a transcode; freed whatever happens.
struct Transcode {
    jpeg_decompress_struct from{};
    jpeg_compress_struct to{};
    JpegErrors errors_from, errors_to;
    JpegOutput output;

    ~Transcode() {
        jpeg_destroy_compress(&to);
        jpeg_destroy_decompress(&from);
    }

    bool is_written_by_libjpeg(const jpeg_marker_struct& marker) const {
        const auto begins_with = [&](const char* text) {
            return marker.data_length >= 5 && std::memcmp(marker.data, text, 5) == 0;
        };
        return (to.write_JFIF_header && marker.marker == JPEG_APP0 && begins_with("JFIF")) ||
               (to.write_Adobe_marker && marker.marker == JPEG_APP0 + 14 && begins_with("Adobe"));
    }

    // Only libjpeg's frames and trivial locals from here on: its errors jump out.
    void run(std::span<const uint8_t> jpeg) {
        jpeg_create_decompress(&from);
        errors_from.limit_scans(from);
        jpeg_create_compress(&to);
        jpeg_mem_src(&from, jpeg.data(), static_cast<unsigned long>(jpeg.size()));
        jpeg_save_markers(&from, JPEG_COM, 0xffff);
        for (int i = 0; i < 16; ++i) jpeg_save_markers(&from, JPEG_APP0 + i, 0xffff);
        jpeg_read_header(&from, TRUE);
        jvirt_barray_ptr* const coefficients = jpeg_read_coefficients(&from);
        jpeg_copy_critical_parameters(&from, &to);
        to.restart_in_rows = 1;
        to.optimize_coding = TRUE;
        output.attach(to);
        jpeg_write_coefficients(&to, coefficients);
        for (jpeg_saved_marker_ptr marker = from.marker_list; marker != nullptr; marker = marker->next)
            if (!is_written_by_libjpeg(*marker))
                jpeg_write_marker(&to, marker->marker, marker->data, marker->data_length);
        jpeg_finish_compress(&to);
        jpeg_finish_decompress(&from);
    }
};

// What `restart_index` needs to know of a JPEG's header.
struct Scan {
    size_t begin = 0;  // of the entropy-coded data
    size_t rows = 0;   // of MCUs
};

uint32_t big_endian(const uint8_t* p) { return uint32_t{p[0]} << 8 | p[1]; }

constexpr size_t divided_up(size_t a, size_t b) { return (a + b - 1) / b; }

// Reads the segments up to the first scan; `rows` stays 0 where there is nothing to index.
Scan find_scan(std::span<const uint8_t> jpeg) {
    size_t interval = 0, columns = 0, rows = 0, components = 0;
    size_t position = 2;
    while (position + 4 <= jpeg.size() && jpeg[position] == 0xff) {
        const uint8_t marker = jpeg[position + 1];
        if (marker == 0xff) {  // filler
            ++position;
            continue;
        }
        const uint8_t* const segment = jpeg.data() + position + 4;
        const size_t length = big_endian(jpeg.data() + position + 2);
        if (length < 2 || length > jpeg.size() - position - 2) return {};
        const size_t size = length - 2;
        if (marker == 0xdd && size >= 2) interval = big_endian(segment);
        if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) {
            if (marker > 0xc1 || size < 6 || size < 6 + 3 * size_t{segment[5]} || segment[5] == 0) return {};
            components = segment[5];
            size_t across = 1, down = 1;
            for (size_t i = 0; components > 1 && i < components; ++i) {  // one component alone: MCUs of one block
                across = std::max<size_t>(across, segment[7 + 3 * i] >> 4);
                down = std::max<size_t>(down, segment[7 + 3 * i] & 15);
            }
            rows = divided_up(big_endian(segment + 1), 8 * down);
            columns = divided_up(big_endian(segment + 3), 8 * across);
        }
        position += 2 + length;
        if (marker == 0xda) {
            const bool one_scan = size >= 1 && components > 0 && segment[0] == components;
            if (!one_scan || columns == 0 || interval != columns) return {};
            return {position, rows};
        }
    }
    return {};
}

}  // namespace

std::vector<uint8_t> add_restart_markers(std::span<const uint8_t> jpeg) {
    if (jpeg.empty()) throw DecodeError("damaged JPEG: it is empty");
    const auto transcode = std::make_unique<Transcode>();
    // Both ends report through their own manager and jump to their own buffer: one setjmp each.
    transcode->errors_from.attach(transcode->from);
    transcode->errors_to.attach(transcode->to);
    if (setjmp(transcode->errors_from.escape)) transcode->errors_from.raise<DecodeError>("damaged JPEG");
    if (setjmp(transcode->errors_to.escape))
        transcode->errors_to.raise<DecodeError>("this JPEG cannot have restart markers");
    transcode->run(jpeg);
    const std::span<const uint8_t> bytes = transcode->output.bytes();
    return {bytes.begin(), bytes.end()};
}

std::vector<uint32_t> restart_index(std::span<const uint8_t> jpeg) {
    if (jpeg.size() < 4 || jpeg.size() > UINT32_MAX || jpeg[0] != 0xff || jpeg[1] != 0xd8) return {};
    const Scan scan = find_scan(jpeg);
    if (scan.rows == 0) return {};
    std::vector<uint32_t> index{static_cast<uint32_t>(scan.begin)};
    const uint8_t* const end = jpeg.data() + jpeg.size();
    const uint8_t* at = jpeg.data() + scan.begin;
    while (at < end && (at = static_cast<const uint8_t*>(std::memchr(at, 0xff, static_cast<size_t>(end - at))))) {
        if (end - at < 2) return {};
        const uint8_t marker = at[1];
        if (marker == 0xd9) return index.size() == scan.rows ? index : std::vector<uint32_t>{};
        if (marker >= 0xd0 && marker <= 0xd7) {
            if (marker - 0xd0u != (index.size() - 1) % 8 || index.size() == scan.rows) return {};
            index.push_back(static_cast<uint32_t>(at + 2 - jpeg.data()));
        } else if (marker != 0 && marker != 0xff) {
            return {};
        }
        at += marker == 0xff ? 1 : 2;
    }
    return {};
}

}  // namespace ffcv
