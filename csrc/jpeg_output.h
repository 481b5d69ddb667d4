// Where libjpeg writes to. Its own destination in memory would leave a dangling pointer behind where it fails.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <span>
#include <vector>

#include <jpeglib.h>

#include <jerror.h>

namespace ffcv {

// Keeps its memory from image to image.
class JpegOutput {
public:
    // To be called before jpeg_start_compress or jpeg_write_coefficients; must outlive the compression.
    void attach(jpeg_compress_struct& info) {
        manager_.init_destination = begin;
        manager_.empty_output_buffer = grow;
        manager_.term_destination = end;
        info.dest = &manager_;
    }

    // The file, after jpeg_finish_compress; valid until the next one begins.
    std::span<const uint8_t> bytes() const { return {buffer_.data(), size_}; }

private:
    static JpegOutput& of(j_compress_ptr info) { return *reinterpret_cast<JpegOutput*>(info->dest); }

    static void begin(j_compress_ptr info) {
        if (of(info).buffer_.empty()) enlarge(info, 1 << 16);
        of(info).continue_at(0);
    }
    static boolean grow(j_compress_ptr info) {  // called when all is full
        const size_t size = of(info).buffer_.size();
        enlarge(info, 2 * size);
        of(info).continue_at(size);
        return TRUE;
    }
    // An exception must not pass through libjpeg's frames.
    static void enlarge(j_compress_ptr info, size_t size) {
        bool is_enlarged = true;
        try {
            of(info).buffer_.resize(size);
        } catch (const std::exception&) {
            is_enlarged = false;
        }
        if (!is_enlarged) ERREXIT1(info, JERR_OUT_OF_MEMORY, 0);
    }
    static void end(j_compress_ptr info) { of(info).size_ = of(info).buffer_.size() - info->dest->free_in_buffer; }

    void continue_at(size_t position) {
        manager_.next_output_byte = buffer_.data() + position;
        manager_.free_in_buffer = buffer_.size() - position;
    }

    jpeg_destination_mgr manager_{};  // the first member: libjpeg hands out its address
    std::vector<uint8_t> buffer_;
    size_t size_ = 0;
};

}  // namespace ffcv
