// The pixel primitives. Views are planar (three uint8 planes, one after another) from the resampling on, so that every
// later loop runs over contiguous bytes. Kernel files use no standard-library templates: an inline function compiled
// for AVX-512 must not be what the linker picks for everybody.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "kernels/mcu.h"

namespace ffcv {

struct Planar {
    uint8_t* data;  // [3, height, width]
    int height, width;

    size_t plane_size() const { return static_cast<size_t>(height) * static_cast<size_t>(width); }
    uint8_t* plane(int channel) const { return data + static_cast<size_t>(channel) * plane_size(); }
};

// Fixed-point weights of a separable resampling along one axis: output i is the sum over k of
// weights[i * taps + k] * input[first[i] + k], shifted right by `weight_bits`. All taps lie inside the input.
struct Taps {
    const int32_t* first;
    const int32_t* weights;
    int taps;
};
inline constexpr int weight_bits = 22;       // Pillow's: the same sums, so the same pixels
inline constexpr int blur_weight_bits = 14;  // leaves room for fractional bits between the passes

inline size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// A padded source row of bytes, up to four such rows widened to 32-bit numbers, then as many rows of four-byte pixels
// and one more.
inline size_t resample_scratch(int height, int width, int out_width) {
    const size_t padded_width = round_up(static_cast<size_t>(width) + 2, 4);
    const size_t row = round_up(static_cast<size_t>(out_width) * 4, 64);
    return round_up(3 * padded_width + 4, 64) + 64 * padded_width +
           row * (round_up(static_cast<size_t>(height), 4) + 1);
}

// One padded row of int16, then a plane of such rows padded to 64 pixels, with a kernel's reach above and below.
inline size_t blur_scratch(int height, int width, int kernel_size) {
    return sizeof(int16_t) * (round_up(static_cast<size_t>(width + kernel_size) + 64, 64) +
                              round_up(static_cast<size_t>(width), 64) * static_cast<size_t>(height + kernel_size));
}

struct KernelTable {
    const char* isa;
    // Interleaved RGB rows [height, width] -> planar view; `scratch` holds resample_scratch() bytes.
    void (*resample)(const uint8_t* source, size_t stride, int height, int width, const Taps& horizontal,
                     const Taps& vertical, bool flip, uint8_t* scratch, const Planar& out);
    void (*deinterleave)(const uint8_t* source, size_t stride, bool flip, const Planar& out);
    void (*flip_horizontal)(const Planar& view);
    void (*brightness)(const Planar& view, float factor);
    void (*contrast)(const Planar& view, float factor);
    void (*saturation)(const Planar& view, float factor);
    void (*hue)(const Planar& view, float turns);
    void (*grayscale)(const Planar& view);
    void (*solarize)(const Planar& view, int threshold);
    void (*flip_vertical)(const Planar& view);
    // `matrix`: six numbers that take the target's x, y to the source's; `scratch` holds 3 * plane_size() bytes.
    void (*affine)(const Planar& view, const double* matrix, bool bilinear, const uint8_t* fill, uint8_t* scratch);
    void (*fill_box)(const Planar& view, int top, int left, int height, int width, const uint8_t* colour);
    void (*posterize)(const Planar& view, int bits);
    void (*equalize)(const Planar& view);
    void (*autocontrast)(const Planar& view);
    void (*sharpness)(const Planar& view, float factor, uint8_t* scratch);  // 3 * plane_size() bytes
    void (*add_noise)(const Planar& view, float mean, float sigma, uint32_t key_a, uint32_t key_b);
    // Separable, reflecting at the borders; `weights` [kernel_size] sum to 1 << blur_weight_bits; `scratch` holds
    // blur_scratch() bytes.
    void (*blur)(const Planar& view, const int32_t* weights, int kernel_size, uint8_t* scratch);
    void (*pack_float32)(const Planar& view, const float* scale, const float* bias, bool channels_first, float* out);
    void (*pack_float16)(const Planar& view, const float* scale, const float* bias, bool channels_first, uint16_t* out);
    void (*pack_bfloat16)(const Planar& view, const float* scale, const float* bias, bool channels_first,
                          uint16_t* out);
    void (*pack_uint8)(const Planar& view, bool channels_first, uint8_t* out);

    // Decode the next `count` MCUs to where their blocks say, or pass over them. False for data that libjpeg-turbo has
    // to judge: damaged, or so extreme that implementations differ.
    bool (*decode_mcus)(EntropyBits& bits, Mcu& mcu, int count);
    bool (*skip_mcus)(EntropyBits& bits, const Mcu& mcu, int count);
    // Twice as many samples in a row, from `count` and one more on either side ("fancy upsampling": a triangle filter).
    void (*upsample_across)(const uint8_t* samples, int count, uint8_t* out);
    // The same for a row that lies between `near` and `far`, nearer to `near`; `scratch` holds count + 2 numbers.
    void (*upsample_both)(const uint8_t* near, const uint8_t* far, int count, int16_t* scratch, uint8_t* out);
    // A row of components -> interleaved RGB; up to 63 bytes behind the components' rows are read.
    void (*ycbcr_to_rgb)(const uint8_t* luma, const uint8_t* cb, const uint8_t* cr, int width, uint8_t* rgb);
    void (*grey_to_rgb)(const uint8_t* luma, int width, uint8_t* rgb);
};

// The table for the best instruction set of this machine, or the one that select_kernels() named.
const KernelTable& kernels();
// Names a table ("v2", "v3", "v4", "baseline") for tests; false if this machine or build has none of that name.
bool select_kernels(const char* isa);

}  // namespace ffcv
