#include "jpeg_encoder.h"

#include <stdexcept>
#include <string>

#include "jpeg_errors.h"
#include "jpeg_output.h"

namespace ffcv {

struct JpegEncoder::Handle {
    jpeg_compress_struct info{};
    JpegErrors errors;
    JpegOutput output;
};

JpegEncoder::JpegEncoder() : handle_(std::make_unique<Handle>()) {
    handle_->errors.attach(handle_->info);
    if (setjmp(handle_->errors.escape)) handle_->errors.raise<std::runtime_error>("libjpeg-turbo did not start");
    jpeg_create_compress(&handle_->info);
    handle_->output.attach(handle_->info);
}

JpegEncoder::~JpegEncoder() { jpeg_destroy_compress(&handle_->info); }

std::span<const uint8_t> JpegEncoder::encode(const PixelRows& pixels, int quality, bool halve_chroma) {
    jpeg_compress_struct& info = handle_->info;
    if (setjmp(handle_->errors.escape)) {
        jpeg_abort_compress(&info);
        handle_->errors.raise<std::invalid_argument>("cannot be compressed");
    }
    info.image_height = static_cast<JDIMENSION>(pixels.height);
    info.image_width = static_cast<JDIMENSION>(pixels.width);
    info.input_components = pixels.components;
    info.in_color_space = pixels.components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    if (!halve_chroma) info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;
    jpeg_start_compress(&info, TRUE);
    const size_t stride = static_cast<size_t>(pixels.width) * static_cast<size_t>(pixels.components);
    while (info.next_scanline < info.image_height) {
        // libjpeg only reads them.
        JSAMPROW row = const_cast<uint8_t*>(pixels.data) + info.next_scanline * stride;
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    return handle_->output.bytes();
}

}  // namespace ffcv
