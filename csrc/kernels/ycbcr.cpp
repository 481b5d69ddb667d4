// From a JPEG's components to planes of RGB: chroma upsampling and colour conversion as libjpeg-turbo's, bit for bit.
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

constexpr int block = 4 * lanes;  // pixels that are converted together, a register of bytes of each component

// Bytes -> numbers, in two registers; narrow_join is the inverse.
inline void widen(Ints bytes, Words* out) {
    out[0] = interleave_low((Registered)bytes, Registered{});
    out[1] = interleave_high((Registered)bytes, Registered{});
}

// (value * factor + 32768) >> 16
inline Words scaled(Words value, int16_t factor) { return (high_product(2 * value, Words{} + factor) + 1) >> 1; }

// By the equations of JFIF with 16 fractional bits, whole parts apart: 1.402 = 1 + 26345 / 65536, 1.772 = 2 - 14942 /
// 65536, 0.714 = 1 - 18734 / 65536, 0.344 = 22554 / 65536.
inline void convert(const uint8_t* luma, const uint8_t* cb, const uint8_t* cr, uint8_t* red, uint8_t* green,
                    uint8_t* blue) {
    Words y[2], u[2], v[2], r[2], g[2], b[2];
    widen(load<Ints>(luma), y);
    widen(load<Ints>(cb), u);
    widen(load<Ints>(cr), v);
    const Words factors = pair(-22554, 18734);
    for (int i = 0; i < 2; ++i) {
        u[i] -= 128;
        v[i] -= 128;
        r[i] = y[i] + v[i] + scaled(v[i], 26345);
        b[i] = y[i] + 2 * u[i] + scaled(u[i], -14942);
        const Ints low = add_pair_products(Ints{} + 32768, interleave_low(u[i], v[i]), factors);
        const Ints high = add_pair_products(Ints{} + 32768, interleave_high(u[i], v[i]), factors);
        g[i] = y[i] - v[i] + join(low >> 16, high >> 16);
    }
    store(red, narrow_join(r[0], r[1]));
    store(green, narrow_join(g[0], g[1]));
    store(blue, narrow_join(b[0], b[1]));
}

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
inline Words low_byte_first(Words first, Words second) { return first | second << 8; }
#else
inline Words low_byte_first(Words first, Words second) { return first << 8 | second; }
#endif

}  // namespace

void ycbcr_to_rgb(const uint8_t* luma, const uint8_t* cb, const uint8_t* cr, int width, uint8_t* const* rgb) {
    for (int x = 0; x < width; x += block) convert(luma + x, cb + x, cr + x, rgb[0] + x, rgb[1] + x, rgb[2] + x);
}

void upsample_across(const uint8_t* samples, int count, uint8_t* out) {
    for (int i = 0; i < count; ++i) {
        out[2 * i] = static_cast<uint8_t>((3 * samples[i] + samples[i - 1] + 1) >> 2);
        out[2 * i + 1] = static_cast<uint8_t>((3 * samples[i] + samples[i + 1] + 2) >> 2);
    }
}

void upsample_both(const uint8_t* near, const uint8_t* far, int count, uint8_t* out) {
    const auto sums = [&](int i) { return 3 * widen(load<WideBytes>(near + i)) + widen(load<WideBytes>(far + i)); };
    for (int i = 0; i < count; i += 2 * lanes) {
        const Words three = 3 * sums(i);
        const Words even = (three + sums(i - 1) + 8) >> 4, odd = (three + sums(i + 1) + 7) >> 4;
        store(out + 2 * i, low_byte_first(even, odd));
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
