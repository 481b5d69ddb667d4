// From a JPEG's components to interleaved RGB: chroma upsampling and colour conversion as libjpeg-turbo's, bit for bit.
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

using Bytes16 = Vector<uint8_t, 16>;

// 16 pixels of three channels -> 48 bytes, interleaved.
inline void interleave(const uint8_t* r, const uint8_t* g, const uint8_t* b, uint8_t* out) {
    const Bytes16 red = load<Bytes16>(r), green = load<Bytes16>(g), blue = load<Bytes16>(b);
    const Bytes16 rg0 = __builtin_shufflevector(red, green, 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5);
    const Bytes16 rg1 = __builtin_shufflevector(red, green, 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26);
    const Bytes16 rg2 = __builtin_shufflevector(red, green, 0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0);
    store(out, __builtin_shufflevector(rg0, blue, 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15));
    store(out + 16, __builtin_shufflevector(rg1, blue, 0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15));
    store(out + 32, __builtin_shufflevector(rg2, blue, 26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31));
}

constexpr int block = 64;  // pixels that are converted together

inline uint8_t clamped(int value) { return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value); }

// (value * factor + 32768) >> 16, in numbers of 16 bits
inline int16_t scaled(int16_t value, int16_t factor) {
    const int16_t twice = static_cast<int16_t>(2 * value);
    return static_cast<int16_t>((((twice * factor) >> 16) + 1) >> 1);
}

// By the equations of JFIF with 16 fractional bits, whole parts apart: 1.402 = 1 + 26345 / 65536, 1.772 = 2 - 14942 /
// 65536, 0.714 = 1 - 18734 / 65536, 0.344 = 22554 / 65536.
inline void convert(const uint8_t* luma, const uint8_t* cb, const uint8_t* cr, uint8_t* rgb) {
    uint8_t r[block], g[block], b[block];
    for (int i = 0; i < block; ++i) {
        const int16_t y = luma[i], u = static_cast<int16_t>(cb[i] - 128), v = static_cast<int16_t>(cr[i] - 128);
        r[i] = clamped(static_cast<int16_t>(y + v + scaled(v, 26345)));
        b[i] = clamped(static_cast<int16_t>(y + 2 * u + scaled(u, -14942)));
    }
    for (int i = 0; i < block; ++i) {
        const int16_t y = luma[i], u = static_cast<int16_t>(cb[i] - 128), v = static_cast<int16_t>(cr[i] - 128);
        g[i] = clamped(static_cast<int16_t>(y - v + ((u * -22554 + v * 18734 + 32768) >> 16)));
    }
    for (int i = 0; i < block; i += 16) interleave(r + i, g + i, b + i, rgb + 3 * i);
}

}  // namespace

void ycbcr_to_rgb(const uint8_t* luma, const uint8_t* cb, const uint8_t* cr, int width, uint8_t* rgb) {
    int x = 0;
    for (; x + block <= width; x += block) convert(luma + x, cb + x, cr + x, rgb + 3 * x);
    if (x == width) return;
    uint8_t rest[3 * block];
    convert(luma + x, cb + x, cr + x, rest);
    __builtin_memcpy(rgb + 3 * x, rest, 3 * static_cast<size_t>(width - x));
}

void grey_to_rgb(const uint8_t* luma, int width, uint8_t* rgb) {
    for (int x = 0; x < width; ++x) rgb[3 * x] = rgb[3 * x + 1] = rgb[3 * x + 2] = luma[x];
}

void upsample_across(const uint8_t* samples, int count, uint8_t* out) {
    for (int i = 0; i < count; ++i) {
        out[2 * i] = static_cast<uint8_t>((3 * samples[i] + samples[i - 1] + 1) >> 2);
        out[2 * i + 1] = static_cast<uint8_t>((3 * samples[i] + samples[i + 1] + 2) >> 2);
    }
}

void upsample_both(const uint8_t* near, const uint8_t* far, int count, int16_t* scratch, uint8_t* out) {
    int16_t* const sums = scratch + 1;
    for (int i = -1; i <= count; ++i) sums[i] = static_cast<int16_t>(3 * near[i] + far[i]);
    for (int i = 0; i < count; ++i) {
        out[2 * i] = static_cast<uint8_t>((3 * sums[i] + sums[i - 1] + 8) >> 4);
        out[2 * i + 1] = static_cast<uint8_t>((3 * sums[i] + sums[i + 1] + 7) >> 4);
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
