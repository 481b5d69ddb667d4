// Gaussian noise as a function of (key, position): hashed counters, Box and Muller's method, with a logarithm and a
// sine of plain float operations, because mathematical libraries differ between machines.
#include "kernels/kernels.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

// A mixer of 32 bits (C. Wellons' "lowbias32").
uint32_t mix(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x ^ (x >> 16);
}

// Natural logarithm of 0 < x < 1: exponent and mantissa apart, the latter by the series of 2 artanh.
float logarithm(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    const uint32_t shifted = bits - 0x3f3504f3u;  // the mantissa's range becomes [sqrt(1/2), sqrt(2))
    const int32_t exponent = static_cast<int32_t>(shifted) >> 23;
    bits = (shifted & 0x007fffffu) + 0x3f3504f3u;
    float mantissa;
    __builtin_memcpy(&mantissa, &bits, 4);
    const float s = (mantissa - 1.0f) / (mantissa + 1.0f), s2 = s * s;
    const float series = 2.0f + s2 * (0.66666667f + s2 * (0.4f + s2 * (0.2857143f + s2 * 0.22222222f)));
    return static_cast<float>(exponent) * 0.69314718f + s * series;
}

// sin(2 pi t) for -1/2 <= t < 1/2.
float sine(float t) {
    const float size = t < 0.0f ? -t : t;
    const float folded = size > 0.25f ? 0.5f - size : size;
    const float x = folded * 6.2831853f, x2 = x * x;
    const float value =
        x * (1.0f + x2 * (-0.16666667f + x2 * (8.3333310e-3f + x2 * (-1.9840874e-4f + x2 * 2.7525562e-6f))));
    return t < 0.0f ? -value : value;
}

}  // namespace

void add_noise(const Planar& view, float mean, float sigma, uint32_t key_a, uint32_t key_b) {
    uint8_t* const values = view.data;
    const uint32_t n = static_cast<uint32_t>(3 * view.plane_size());
    for (uint32_t i = 0; i < n; ++i) {
        const uint32_t first = mix(mix(i + key_a * 0x9e3779b9u) + key_b * 0x85ebca6bu),
                       second = mix(first + 0x9e3779b9u);
        const float u = (static_cast<float>(static_cast<int32_t>(first >> 9)) + 0.5f) * 0x1p-23f;
        const float t = static_cast<float>(static_cast<int32_t>(second >> 8)) * 0x1p-24f - 0.5f;
        const float normal = __builtin_sqrtf(-2.0f * logarithm(u)) * sine(t);
        float value = static_cast<float>(values[i]) + (mean + sigma * normal);
        value = value < 0.0f ? 0.0f : value;
        value = value > 255.0f ? 255.0f : value;
        values[i] = static_cast<uint8_t>(static_cast<int>(value + 0.5f));
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
