// From planar bytes to the batch's dtype and layout, normalised on the way.
#include "kernels/interleave.h"
#include "kernels/kernels.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

// float32 -> IEEE half, rounding to nearest even, in integer arithmetic that every instruction set vectorises alike.
uint16_t to_half(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    float absolute;
    __builtin_memcpy(&absolute, &magnitude, 4);
    const float shifted = absolute + 0.5f;  // aligns a subnormal half's last bit with float's
    uint32_t subnormal;
    __builtin_memcpy(&subnormal, &shifted, 4);
    subnormal -= 0x3f000000u;
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Masks, for compilers make branches of a choice between sums, which they do not vectorise.
    const uint32_t is_subnormal = 0u - (magnitude < 0x38800000u), is_infinite = 0u - (magnitude >= 0x47800000u);
    const uint32_t half = (subnormal & is_subnormal) | (normal & ~is_subnormal);
    return static_cast<uint16_t>(sign | (0x7c00u & is_infinite) | (half & ~is_infinite));
}

// float32 -> bfloat16, rounding to nearest even as torch does.
uint16_t to_bfloat(float value) {
    uint32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}

struct KeepFloat {
    using type = float;
    static float convert(float value) { return value; }
};
struct ToHalf {
    using type = uint16_t;
    static uint16_t convert(float value) { return to_half(value); }
};
struct ToBfloat {
    using type = uint16_t;
    static uint16_t convert(float value) { return to_bfloat(value); }
};

template <class Format>
void pack(const Planar& view, const float* scale, const float* bias, bool channels_first, typename Format::type* out) {
    const size_t n = view.plane_size();
    if (channels_first) {
        for (int channel = 0; channel < 3; ++channel) {
            const uint8_t* const plane = view.plane(channel);
            const float s = scale[channel], b = bias[channel];
            typename Format::type* const target = out + static_cast<size_t>(channel) * view.plane_stride;
            for (size_t i = 0; i < n; ++i) target[i] = Format::convert(static_cast<float>(plane[i]) * s + b);
        }
        return;
    }
    const uint8_t *r = view.plane(0), *g = view.plane(1), *b = view.plane(2);
    for (size_t i = 0; i < n; ++i) {
        out[3 * i] = Format::convert(static_cast<float>(r[i]) * scale[0] + bias[0]);
        out[3 * i + 1] = Format::convert(static_cast<float>(g[i]) * scale[1] + bias[1]);
        out[3 * i + 2] = Format::convert(static_cast<float>(b[i]) * scale[2] + bias[2]);
    }
}

}  // namespace

void pack_float32(const Planar& view, const float* scale, const float* bias, bool channels_first, float* out) {
    pack<KeepFloat>(view, scale, bias, channels_first, out);
}

void pack_float16(const Planar& view, const float* scale, const float* bias, bool channels_first, uint16_t* out) {
    pack<ToHalf>(view, scale, bias, channels_first, out);
}

void pack_bfloat16(const Planar& view, const float* scale, const float* bias, bool channels_first, uint16_t* out) {
    pack<ToBfloat>(view, scale, bias, channels_first, out);
}

void pack_uint8(const Planar& view, bool channels_first, uint8_t* out) {
    const size_t n = view.plane_size();
    if (channels_first) {
        for (int channel = 0; channel < 3; ++channel)
            __builtin_memcpy(out + static_cast<size_t>(channel) * view.plane_stride, view.plane(channel), n);
        return;
    }
    const uint8_t* const channels[3] = {view.plane(0), view.plane(1), view.plane(2)};
    join_pixels(channels, n, out);
}

}  // namespace FFCV_ISA
}  // namespace ffcv
