// Tone curves from each channel's histogram, with the arithmetic of Pillow's ImageOps.
#include "kernels/kernels.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

void histogram(const uint8_t* plane, size_t size, uint32_t* counts) {
    uint32_t parts[4][256] = {};  // equal neighbours would wait for each other's count
    size_t i = 0;
    for (; i + 4 <= size; i += 4)
        for (size_t part = 0; part < 4; ++part) ++parts[part][plane[i + part]];
    for (; i < size; ++i) ++parts[0][plane[i]];
    for (int value = 0; value < 256; ++value)
        counts[value] = parts[0][value] + parts[1][value] + parts[2][value] + parts[3][value];
}

void look_up(uint8_t* plane, size_t size, const uint8_t* curve) {
    for (size_t i = 0; i < size; ++i) plane[i] = curve[plane[i]];
}

}  // namespace

void equalize(const Planar& view) {
    const size_t n = view.plane_size();
    for (int channel = 0; channel < 3; ++channel) {
        uint32_t counts[256];
        histogram(view.plane(channel), n, counts);
        int last = 255;
        while (last > 0 && counts[last] == 0) --last;
        const uint64_t step = (n - counts[last]) / 255;
        if (step == 0) continue;
        uint8_t curve[256];
        uint64_t sum = step / 2;
        for (int value = 0; value < 256; ++value) {
            const uint64_t level = sum / step;
            curve[value] = static_cast<uint8_t>(level < 255 ? level : 255);
            sum += counts[value];
        }
        look_up(view.plane(channel), n, curve);
    }
}

void autocontrast(const Planar& view) {
    const size_t n = view.plane_size();
    for (int channel = 0; channel < 3; ++channel) {
        uint8_t* const plane = view.plane(channel);
        uint8_t low = 255, high = 0;
        for (size_t i = 0; i < n; ++i) {
            low = plane[i] < low ? plane[i] : low;
            high = plane[i] > high ? plane[i] : high;
        }
        if (high <= low) continue;
        const double scale = 255.0 / (high - low), offset = -low * scale;
        uint8_t curve[256];
        for (int value = 0; value < 256; ++value) {
            const int level = static_cast<int>(value * scale + offset);
            curve[value] = static_cast<uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
        }
        look_up(plane, n, curve);
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
