// Point operations with Pillow's arithmetic: blends truncate and clamp after each step, luma is ITU-R 601 in 16-bit
// fixed point, and hue turns in eight-bit HSV. Same roundings, so the same pixels as torchvision on PIL images.
#include "kernels/kernels.h"
#include "kernels/simd.h"

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

using Ints = Vector<int32_t, lanes>;
using Floats = Vector<float, lanes>;
using Bytes = Vector<uint8_t, lanes>;

Floats to_float(Ints values) { return __builtin_convertvector(values, Floats); }
Ints truncate(Floats values) { return __builtin_convertvector(values, Ints); }
Ints larger(Ints a, Ints b) { return a > b ? a : b; }
Ints smaller(Ints a, Ints b) { return a < b ? a : b; }

// Hue turned by `shift` 256ths, as Pillow's conversions to eight-bit HSV and back do it. Pillow mixes float and double;
// the float operations below give its result for every colour (the tests try all 2^24). In place.
void turn_hue(Ints& r, Ints& g, Ints& b, int32_t shift) {
    const Ints high = larger(r, larger(g, b)), low = smaller(r, smaller(g, b));
    const Ints range = high - low;
    const Floats x = to_float(high + low - (r + g + b) + high) / to_float(larger(range, Ints{} + 1));  // high - middle
    const Floats red = g >= b ? 1.0f - x : x - 1.0f;
    const Floats green = r >= b ? 1.0f + x : 3.0f - x;
    const Floats blue = r >= g ? 5.0f - x : 3.0f + x;
    const Floats sixths = r == high ? red : (g == high ? green : blue);
    const Floats turn = sixths / 6.0f + (sixths < 0.0f ? Floats{} + 1.0f : Floats{});
    const Ints hue = ((range == 0 ? Ints{} : truncate(turn * 255.0f)) + shift) & 255;
    const Floats ratio = to_float(range) / to_float(larger(high, Ints{} + 1));
    const Floats saturation = to_float(truncate(ratio * 255.0f)) * (1.0f / 255.0f);

    const Ints position = hue * 6;
    const Ints face = (position + 1 + (position >> 8)) >> 8;  // position / 255: 0..5, or 6, which is 0 again
    const Floats f = to_float(position - face * 255) * (1.0f / 255.0f);
    const Floats value = to_float(high);
    const Ints p = truncate(value * (1.0f - saturation) + 0.5f);
    const Ints q = truncate(value * (1.0f - saturation * f) + 0.5f);
    const Ints t = truncate(value * (1.0f - saturation * (1.0f - f)) + 0.5f);
    const Ints zero = (face == 0) | (face == 6);
    r = (zero | (face == 5)) ? high : (face == 1 ? q : (face == 4 ? t : p));
    g = ((face == 1) | (face == 2)) ? high : (zero ? t : (face == 3 ? q : p));
    b = ((face == 3) | (face == 4)) ? high : (face == 2 ? t : (face == 5 ? q : p));
}

void turn_block(uint8_t* r, uint8_t* g, uint8_t* b, int32_t shift) {
    Ints red = widen<lanes>(load<Bytes>(r)), green = widen<lanes>(load<Bytes>(g)), blue = widen<lanes>(load<Bytes>(b));
    turn_hue(red, green, blue, shift);
    store(r, narrow<lanes>(red));
    store(g, narrow<lanes>(green));
    store(b, narrow<lanes>(blue));
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
    const int shift = static_cast<int>(turns * 255.0f) & 255;
    const size_t n = view.plane_size();
    uint8_t *r = view.plane(0), *g = view.plane(1), *b = view.plane(2);
    const size_t whole = n / lanes * lanes;
    for (size_t i = 0; i < whole; i += lanes) turn_block(r + i, g + i, b + i, shift);
    if (whole < n) {
        uint8_t rest[3][lanes] = {};
        const size_t count = n - whole;
        for (int channel = 0; channel < 3; ++channel)
            __builtin_memcpy(rest[channel], view.plane(channel) + whole, count);
        turn_block(rest[0], rest[1], rest[2], shift);
        for (int channel = 0; channel < 3; ++channel)
            __builtin_memcpy(view.plane(channel) + whole, rest[channel], count);
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
