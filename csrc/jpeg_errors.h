// How libjpeg's errors become exceptions. It reports them by calling `error_exit`, which must not return: ours jumps to
// the setjmp of the entry point, which throws. Between setjmp and the jump only libjpeg's frames and trivially
// destructible locals may live.
#pragma once
#include <jpeglib.h>
#include <csetjmp>
#include <cstdio>
#include <new>
#include <string>

extern "C" {
#include <jerror.h>
}

namespace ffcv {

struct JpegErrors {
    jpeg_error_mgr manager;
    jpeg_progress_mgr progress;
    std::jmp_buf escape;
    char message[JMSG_LENGTH_MAX];

    // libjpeg-turbo's advice for input that nobody vouches for: files of a few kilobytes can ask for minutes of work.
    static constexpr int max_scans = 100;
    static constexpr long long max_pixels = 1LL << 28;

    // To be called before jpeg_create_*, which keeps `client_data`.
    template <class Info>
    void attach(Info& info) {
        info.err = jpeg_std_error(&manager);
        manager.error_exit = on_error;
        manager.emit_message = on_message;
        info.client_data = this;
    }

    // After the jump: an exception that begins with `what`, or std::bad_alloc, which says nothing about the image.
    template <class Error>
    [[noreturn]] void raise(const char* what) const {
        if (manager.msg_code == JERR_OUT_OF_MEMORY) throw std::bad_alloc();
        throw Error(std::string(what) + ": " + message);
    }

    // To be called after jpeg_create_decompress.
    void limit_scans(jpeg_decompress_struct& info) {
        progress.progress_monitor = on_progress;
        info.progress = &progress;
    }

    static JpegErrors& of(j_common_ptr info) { return *static_cast<JpegErrors*>(info->client_data); }

    static void on_error(j_common_ptr info) {
        JpegErrors& errors = of(info);
        info->err->format_message(info, errors.message);
        std::longjmp(errors.escape, 1);
    }

    static void on_progress(j_common_ptr info) {
        if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= max_scans) return;
        JpegErrors& errors = of(info);
        std::snprintf(errors.message, sizeof errors.message, "more than %d scans", max_scans);
        std::longjmp(errors.escape, 1);
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

}  // namespace ffcv
