// Moving pixels without mixing them.
#include "kernels/kernels.h"

namespace ffcv {
namespace FFCV_ISA {

void deinterleave(const uint8_t* source, size_t stride, bool flip, const Planar& out) {
    const size_t width = static_cast<size_t>(out.width);
    for (int channel = 0; channel < 3; ++channel) {
        for (int y = 0; y < out.height; ++y) {
            const uint8_t* const row = source + static_cast<size_t>(y) * stride + channel;
            uint8_t* const target = out.plane(channel) + static_cast<size_t>(y) * width;
            if (flip)
                for (size_t x = 0; x < width; ++x) target[x] = row[3 * (width - 1 - x)];
            else
                for (size_t x = 0; x < width; ++x) target[x] = row[3 * x];
        }
    }
}

void flip_horizontal(const Planar& view) {
    const size_t width = static_cast<size_t>(view.width);
    for (size_t y = 0; y < 3 * static_cast<size_t>(view.height); ++y) {
        uint8_t* const row = view.data + y * width;
        for (size_t x = 0; x < width / 2; ++x) {
            const uint8_t left = row[x];
            row[x] = row[width - 1 - x];
            row[width - 1 - x] = left;
        }
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
