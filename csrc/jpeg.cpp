#include "jpeg.h"

#include <algorithm>

#include "jpeg_errors.h"
#include "region_decoder.h"

#define FFCV_TEXT(name) #name
#define FFCV_VALUE_TEXT(name) FFCV_TEXT(name)

namespace ffcv {

const char* libjpeg_turbo_version() { return FFCV_VALUE_TEXT(LIBJPEG_TURBO_VERSION); }

struct JpegDecoder::Handle {
    jpeg_decompress_struct info;
    JpegErrors errors;
    RegionDecoder region_decoder;

    void begin(std::span<const uint8_t> bytes);
};

// A new decompressor for each image (2 microseconds): libjpeg keeps the last image's tables, and would decode one that
// lacks its own with them.
void JpegDecoder::Handle::begin(std::span<const uint8_t> bytes) {
    jpeg_destroy_decompress(&info);
    jpeg_create_decompress(&info);
    errors.limit_scans(info);
    jpeg_mem_src(&info, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&info, TRUE);
}

JpegDecoder::JpegDecoder() : handle_(std::make_unique<Handle>()) {
    handle_->errors.attach(handle_->info);
    if (setjmp(handle_->errors.escape)) handle_->errors.raise<DecodeError>("libjpeg-turbo did not start");
    jpeg_create_decompress(&handle_->info);
    handle_->errors.limit_scans(handle_->info);
}

JpegDecoder::~JpegDecoder() { jpeg_destroy_decompress(&handle_->info); }

JpegHeader JpegDecoder::read_header(std::span<const uint8_t> bytes) {
    jpeg_decompress_struct& info = handle_->info;
    if (setjmp(handle_->errors.escape)) {
        jpeg_abort_decompress(&info);
        handle_->errors.raise<DecodeError>("not a readable JPEG");
    }
    if (bytes.empty()) throw DecodeError("not a readable JPEG: it is empty");
    handle_->begin(bytes);
    const JpegHeader header{static_cast<int>(info.image_height), static_cast<int>(info.image_width),
                            info.num_components};
    jpeg_abort_decompress(&info);
    return header;
}

void JpegDecoder::refuse_unsupported() {
    jpeg_decompress_struct& info = handle_->info;
    const int components = info.num_components;
    const long long pixels = static_cast<long long>(info.image_height) * info.image_width;
    if ((components == 1 || components == 3) && pixels <= JpegErrors::max_pixels) return;
    jpeg_abort_decompress(&info);
    if (pixels > JpegErrors::max_pixels)
        throw DecodeError("JPEG of " + std::to_string(pixels) + " pixels, more than the " +
                          std::to_string(JpegErrors::max_pixels) + " that are decoded: shrink it first");
    throw DecodeError("JPEG with " + std::to_string(components) +
                      " components (CMYK?): convert it to RGB when writing the file");
}

JpegHeader JpegDecoder::check(std::span<const uint8_t> bytes, std::vector<uint8_t>& buffer,
                              std::vector<uint8_t>* points) {
    jpeg_decompress_struct& info = handle_->info;
    if (setjmp(handle_->errors.escape)) {
        jpeg_abort_decompress(&info);
        handle_->errors.raise<DecodeError>("damaged JPEG");
    }
    if (bytes.empty()) throw DecodeError("damaged JPEG: it is empty");
    handle_->begin(bytes);
    const JpegHeader header{static_cast<int>(info.image_height), static_cast<int>(info.image_width),
                            info.num_components};
    refuse_unsupported();
    for (int i = 0; i < info.num_components; ++i) {
        const jpeg_component_info& component = info.comp_info[i];
        if (info.max_h_samp_factor % component.h_samp_factor == 0 &&
            info.max_v_samp_factor % component.v_samp_factor == 0)
            continue;
        jpeg_abort_decompress(&info);  // unusual subsampling, which libjpeg may refuse only at full size
        decode(bytes, header.height, header.width, {0, 0, header.height, header.width}, buffer);
        return header;
    }
    const bool is_whole = handle_->region_decoder.is_whole(info, bytes.size(), points);
    // Damage shows while Huffman codes are read. Of each block only the mean is computed, and of colour nothing.
    info.scale_num = 1;
    info.scale_denom = 8;
    info.dct_method = JDCT_IFAST;
    info.do_fancy_upsampling = FALSE;
    info.out_color_space = info.jpeg_color_space == JCS_YCbCr ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(&info);
    if (is_whole) {  // and libjpeg has found nothing wrong with the tables either
        jpeg_abort_decompress(&info);
        return header;
    }
    const size_t needed = static_cast<size_t>(info.output_width) * static_cast<size_t>(info.out_color_components);
    if (buffer.size() < needed) buffer.resize(needed);
    JSAMPROW row = buffer.data();
    while (info.output_scanline < info.output_height) jpeg_read_scanlines(&info, &row, 1);
    jpeg_finish_decompress(&info);
    return header;
}

Pixels JpegDecoder::decode(std::span<const uint8_t> bytes, int height, int width, const Region& wanted,
                           std::vector<uint8_t>& buffer, std::span<const uint8_t> behind, Engine engine) {
    jpeg_decompress_struct& info = handle_->info;
    if (setjmp(handle_->errors.escape)) {
        jpeg_abort_decompress(&info);
        handle_->errors.raise<DecodeError>("damaged JPEG");
    }
    if (bytes.empty()) throw DecodeError("damaged JPEG: it is empty");
    handle_->begin(bytes);
    refuse_unsupported();
    const JpegHeader header{static_cast<int>(info.image_height), static_cast<int>(info.image_width),
                            info.num_components};
    if (header.height != height || header.width != width) {
        jpeg_abort_decompress(&info);
        throw DecodeError("JPEG is " + std::to_string(header.height) + "x" + std::to_string(header.width) +
                          " (height x width), but the file's metadata says " + std::to_string(height) + "x" +
                          std::to_string(width));
    }
    if (engine != Engine::libjpeg) {
        // The setjmp above still holds: our decoder only reads `info` and must call nothing of libjpeg that may fail,
        // whose longjmp would pass over its destructors.
        const std::optional<EntryPoints> points = EntryPoints::parse(behind, bytes.size());
        const std::optional<Pixels> pixels =
            handle_->region_decoder.decode(info, wanted, points ? &*points : nullptr, buffer);
        if (pixels || engine == Engine::ours) jpeg_abort_decompress(&info);
        if (pixels) return *pixels;
        if (engine == Engine::ours) throw DecodeError("left to libjpeg-turbo");
    }
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);

    // Chroma upsampling looks one chroma sample beyond a pixel, so the region gets a margin on either side;
    // libjpeg then widens it to whole MCUs.
    constexpr int margin = 2;
    JDIMENSION left = static_cast<JDIMENSION>(std::max(0, wanted.left - margin));
    JDIMENSION columns = static_cast<JDIMENSION>(std::min(width, wanted.left + wanted.width + margin)) - left;
    if (static_cast<int>(columns) < width) jpeg_crop_scanline(&info, &left, &columns);
    if (wanted.top > 0) jpeg_skip_scanlines(&info, static_cast<JDIMENSION>(wanted.top));

    const size_t stride = static_cast<size_t>(columns) * 3;
    const size_t needed = stride * static_cast<size_t>(wanted.height);
    if (buffer.size() < needed) buffer.resize(needed);
    uint8_t* const pixels = buffer.data();
    const JDIMENSION end = static_cast<JDIMENSION>(wanted.top + wanted.height);
    while (info.output_scanline < end) {
        JSAMPROW row = pixels + (info.output_scanline - static_cast<JDIMENSION>(wanted.top)) * stride;
        jpeg_read_scanlines(&info, &row, 1);
    }
    // A whole image ends with its end marker; what a partial decode has not read, it has not used.
    if (end == info.output_height)
        jpeg_finish_decompress(&info);
    else
        jpeg_abort_decompress(&info);
    const Region decoded{wanted.top, static_cast<int>(left), wanted.height, static_cast<int>(columns)};
    return Pixels::interleaved(pixels, stride, decoded);
}

}  // namespace ffcv
