#include "jpeg.h"

#include <jpeglib.h>
#include <csetjmp>
#include <cstdio>

#include <algorithm>

extern "C" {
#include <jerror.h>
}

namespace ffcv {

// libjpeg reports errors by calling `error_exit`, which must not return: it jumps to the setjmp of the entry point,
// which throws. Between setjmp and the jump only libjpeg's frames and trivially destructible locals live.
struct JpegDecoder::Handle {
    jpeg_decompress_struct info;
    jpeg_error_mgr errors;
    std::jmp_buf escape;
    char message[JMSG_LENGTH_MAX];

    static Handle& of(j_common_ptr info) { return *static_cast<Handle*>(info->client_data); }

    static void on_error(j_common_ptr info) {
        Handle& handle = of(info);
        info->err->format_message(info, handle.message);
        std::longjmp(handle.escape, 1);
    }

    // libjpeg calls damaged data a "warning" and fills in grey. These are the warnings after which pixels are guesses.
    static void on_message(j_common_ptr info, int level) {
        if (level >= 0) return;
        switch (info->err->msg_code) {
            case JWRN_JPEG_EOF:
            case JWRN_HIT_MARKER:
            case JWRN_HUFF_BAD_CODE:
            case JWRN_ARITH_BAD_CODE:
            case JWRN_MUST_RESYNC:
                on_error(info);
        }
    }
};

JpegDecoder::JpegDecoder() : handle_(std::make_unique<Handle>()) {
    handle_->info.err = jpeg_std_error(&handle_->errors);
    handle_->errors.error_exit = Handle::on_error;
    handle_->errors.emit_message = Handle::on_message;
    handle_->info.client_data = handle_.get();
    if (setjmp(handle_->escape)) throw DecodeError(std::string("libjpeg-turbo did not start: ") + handle_->message);
    jpeg_create_decompress(&handle_->info);
    handle_->info.client_data = handle_.get();  // jpeg_create_decompress keeps it, by contract
}

JpegDecoder::~JpegDecoder() { jpeg_destroy_decompress(&handle_->info); }

JpegHeader JpegDecoder::read_header(std::span<const uint8_t> bytes) {
    jpeg_decompress_struct& info = handle_->info;
    if (setjmp(handle_->escape)) {
        jpeg_abort_decompress(&info);
        throw DecodeError(std::string("not a readable JPEG: ") + handle_->message);
    }
    if (bytes.empty()) throw DecodeError("not a readable JPEG: it is empty");
    jpeg_mem_src(&info, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&info, TRUE);
    const JpegHeader header{static_cast<int>(info.image_height), static_cast<int>(info.image_width),
                            info.num_components};
    jpeg_abort_decompress(&info);
    return header;
}

Pixels JpegDecoder::decode(std::span<const uint8_t> bytes, const Region& wanted, std::vector<uint8_t>& buffer) {
    jpeg_decompress_struct& info = handle_->info;
    if (setjmp(handle_->escape)) {
        jpeg_abort_decompress(&info);
        throw DecodeError(std::string("damaged JPEG: ") + handle_->message);
    }
    if (bytes.empty()) throw DecodeError("damaged JPEG: it is empty");
    jpeg_mem_src(&info, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&info, TRUE);
    const int height = static_cast<int>(info.image_height), width = static_cast<int>(info.image_width);
    if (info.num_components != 1 && info.num_components != 3) {
        jpeg_abort_decompress(&info);
        throw DecodeError("JPEG with " + std::to_string(info.num_components) +
                          " components (CMYK?): convert it to RGB when writing the file");
    }
    if (wanted.top + wanted.height > height || wanted.left + wanted.width > width) {
        jpeg_abort_decompress(&info);
        throw DecodeError("JPEG is " + std::to_string(height) + "x" + std::to_string(width) +
                          " (height x width), smaller than the file's metadata says");
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
    return {pixels, stride, {wanted.top, static_cast<int>(left), wanted.height, static_cast<int>(columns)}};
}

}  // namespace ffcv
