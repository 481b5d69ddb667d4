// Point operations with Pillow's arithmetic: blends truncate and clamp after each step, luma is ITU-R 601 in 16-bit
// fixed point, and hue turns in eight-bit HSV. Same roundings, so the same pixels as torchvision on PIL images.
#include "kernels/kernels.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

uint8_t luma(uint8_t r, uint8_t g, uint8_t b) {
    return static_cast<uint8_t>((r * 19595u + g * 38470u + b * 7471u + 0x8000u) >> 16);
}

// Pillow's Image.blend: from `base` (factor 0) to `value` (factor 1) and beyond.
uint8_t blend(int base, int value, float factor) {
    float mixed = static_cast<float>(base) + factor * static_cast<float>(value - base);
    mixed = mixed < 0.0f ? 0.0f : mixed;
    mixed = mixed > 255.0f ? 255.0f : mixed;
    return static_cast<uint8_t>(static_cast<int>(mixed));
}

uint8_t round_to_byte(double value) { return static_cast<uint8_t>(static_cast<int>(value + 0.5)); }

struct Rgb {
    uint8_t r, g, b;
};

// Hue turned by `shift` 256ths. The mixture of float and double below is Pillow's, and decides roundings.
Rgb turn_hue(Rgb in, uint8_t shift) {
    const int r = in.r, g = in.g, b = in.b;
    const int high = r > g ? (r > b ? r : b) : (g > b ? g : b);
    const int low = r < g ? (r < b ? r : b) : (g < b ? g : b);
    const int range = high - low;
    const float divisor = static_cast<float>(range == 0 ? 1 : range);
    const float rc = static_cast<float>(high - r) / divisor;
    const float gc = static_cast<float>(high - g) / divisor;
    const float bc = static_cast<float>(high - b) / divisor;
    const float sector = r == high   ? bc - gc
                         : g == high ? static_cast<float>(2.0 + static_cast<double>(rc) - static_cast<double>(bc))
                                     : static_cast<float>(4.0 + static_cast<double>(gc) - static_cast<double>(rc));
    double wrapped = static_cast<double>(sector) / 6.0 + 1.0;
    wrapped = wrapped >= 1.0 ? wrapped - 1.0 : wrapped;
    const int hue_in = range == 0 ? 0 : static_cast<int>(static_cast<double>(static_cast<float>(wrapped)) * 255.0);
    const float saturation = static_cast<float>(range) / static_cast<float>(high == 0 ? 1 : high);
    const int s = static_cast<int>(static_cast<double>(saturation) * 255.0);

    const uint8_t hue = static_cast<uint8_t>(hue_in + shift);
    const double position = static_cast<double>(hue) * 6.0 / 255.0;
    const int face = static_cast<int>(position);
    const float f = static_cast<float>(position - static_cast<double>(face));
    const float fs = static_cast<float>(static_cast<double>(s) / 255.0);
    const double v = high;
    const uint8_t value = static_cast<uint8_t>(high);
    const uint8_t p = round_to_byte(v * (1.0 - static_cast<double>(fs)));
    const uint8_t q = round_to_byte(v * (1.0 - static_cast<double>(fs * f)));
    const uint8_t t = round_to_byte(v * (1.0 - static_cast<double>(fs) * (1.0 - static_cast<double>(f))));
    Rgb out;
    out.r = (face == 0 || face >= 5) ? value : face == 1 ? q : face == 4 ? t : p;
    out.g = (face == 1 || face == 2) ? value : (face == 0 || face == 6) ? t : face == 3 ? q : p;
    out.b = (face == 3 || face == 4) ? value : face == 2 ? t : face == 5 ? q : p;
    return out;
}

}  // namespace

void brightness(const Planar& view, float factor) {
    const size_t n = 3 * view.plane_size();
    uint8_t* const values = view.data;  // a local: bytes may alias anything, `view` included
    for (size_t i = 0; i < n; ++i) values[i] = blend(0, values[i], factor);
}

void contrast(const Planar& view, float factor) {
    const size_t n = view.plane_size();
    const uint8_t *r = view.plane(0), *g = view.plane(1), *b = view.plane(2);
    uint64_t sum = 0;
    for (size_t start = 0; start < n; start += 65536) {
        const size_t end = start + 65536 < n ? start + 65536 : n;
        uint32_t partial = 0;
        for (size_t i = start; i < end; ++i) partial += luma(r[i], g[i], b[i]);
        sum += partial;
    }
    const int mean = static_cast<int>(static_cast<double>(sum) / static_cast<double>(n) + 0.5);
    uint8_t* const values = view.data;
    for (size_t i = 0; i < 3 * n; ++i) values[i] = blend(mean, values[i], factor);
}

void saturation(const Planar& view, float factor) {
    const size_t n = view.plane_size();
    uint8_t *r = view.plane(0), *g = view.plane(1), *b = view.plane(2);
    for (size_t i = 0; i < n; ++i) {
        const int grey = luma(r[i], g[i], b[i]);
        r[i] = blend(grey, r[i], factor);
        g[i] = blend(grey, g[i], factor);
        b[i] = blend(grey, b[i], factor);
    }
}

void hue(const Planar& view, float turns) {
    // torchvision adds the shift as a wrapping byte: int(turns * 255), truncated towards zero.
    const uint8_t shift = static_cast<uint8_t>(static_cast<int>(turns * 255.0f));
    const size_t n = view.plane_size();
    uint8_t *r = view.plane(0), *g = view.plane(1), *b = view.plane(2);
    for (size_t i = 0; i < n; ++i) {
        const Rgb out = turn_hue({r[i], g[i], b[i]}, shift);
        r[i] = out.r;
        g[i] = out.g;
        b[i] = out.b;
    }
}

void grayscale(const Planar& view) {
    const size_t n = view.plane_size();
    uint8_t *r = view.plane(0), *g = view.plane(1), *b = view.plane(2);
    for (size_t i = 0; i < n; ++i) r[i] = g[i] = b[i] = luma(r[i], g[i], b[i]);
}

void solarize(const Planar& view, int threshold) {
    const size_t n = 3 * view.plane_size();
    uint8_t* const values = view.data;
    for (size_t i = 0; i < n; ++i) {
        const uint8_t value = values[i];
        values[i] = value >= threshold ? static_cast<uint8_t>(255 - value) : value;
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
