// The pixel primitives. Views are planar (three uint8 planes, one after another) from the resampling on, so that every
// later loop runs over contiguous bytes. Kernel files use no standard-library templates: an inline function compiled
// for AVX-512 must not be what the linker picks for everybody.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "kernels/mcu.h"

namespace ffcv {

// RGB pixels that somebody else owns: interleaved, or in three planes, behind which lie `pixels_padding` readable
// bytes.
enum class PixelLayout : size_t { planes = 1, interleaved = 3 };  // bytes from a channel's value to its next
struct Rgb {
    const uint8_t* channels[3];
    size_t stride;  // bytes between rows
    PixelLayout layout;
};
inline constexpr size_t pixels_padding = 128;

// Where RGB pixels [height, width] go: three planes, one after another, or interleaved.
struct Canvas {
    uint8_t* data;
    int height, width;
    PixelLayout layout;

    // Where the values of row `y` begin, of each channel.
    void row(int y, uint8_t** channels) const {
        const size_t w = static_cast<size_t>(width), above = static_cast<size_t>(y) * w;
        const bool planes = layout == PixelLayout::planes;
        const size_t apart = planes ? w * static_cast<size_t>(height) : 1;
        for (size_t channel = 0; channel < 3; ++channel)
            channels[channel] = data + channel * apart + above * static_cast<size_t>(layout);
    }
};

// A view [3, height, width], or a part of it whose planes lie as far apart as the whole view's.
struct Planar {
    uint8_t* data;
    int height, width;
    size_t plane_stride = static_cast<size_t>(height) * static_cast<size_t>(width);

    size_t plane_size() const { return static_cast<size_t>(height) * static_cast<size_t>(width); }
    uint8_t* plane(int channel) const { return data + static_cast<size_t>(channel) * plane_stride; }
};

// Fixed-point weights of a separable resampling along one axis: output i is the sum over k of
// weights[k * stride + i] * input[first[i] + k], shifted right by `weight_bits`. All taps lie inside the input. Kernels
// may make `outputs_together` outputs at a time: there are weights for as many.
struct Taps {
    const int32_t* first;
    const int32_t* weights;
    int taps;
    size_t stride;
};
inline constexpr size_t outputs_together = 16;
inline constexpr int weight_bits = 22;       // Pillow's: the same sums, so the same pixels
inline constexpr int blur_weight_bits = 14;  // leaves room for fractional bits between the passes

inline constexpr size_t tile_pixels = 512;  // that colour operations work on together, in the first-level cache

inline size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Bytes that a resampling works in: four rows of three planes; what the weights are taken apart to, four at a time; all
// rows after the horizontal pass, and one after both, where the channels follow each other.
struct ResampleScratch {
    size_t plane_row, across, down, row, rows;

    ResampleScratch(int height, int width, int out_height, int out_width, int taps_across, int taps_down)
        : plane_row(round_up(static_cast<size_t>(width), 64) + pixels_padding),
          across(round_up(static_cast<size_t>(out_width), outputs_together) * (8 + 16 * fours(taps_across))),
          down((round_up(static_cast<size_t>(out_height), outputs_together) + outputs_together) * 16 *
               fours(taps_down)),
          row(round_up(3 * static_cast<size_t>(out_width) + outputs_together, 64)),
          rows(row * (4 * fours(height) + 4)) {}
    size_t total() const { return 64 + 12 * plane_row + across + down + rows + row; }

    static size_t fours(int count) { return (static_cast<size_t>(count) + 3) / 4; }
};

// One padded row of int16, then a plane of such rows padded to 64 pixels, with a kernel's reach above and below.
inline size_t blur_scratch(int height, int width, int kernel_size) {
    return sizeof(int16_t) * (round_up(static_cast<size_t>(width + kernel_size) + 64, 64) +
                              round_up(static_cast<size_t>(width), 64) * static_cast<size_t>(height + kernel_size));
}

// One step of a chain of operations on each pixel by itself.
enum class PointCode {
    blend,       // from the grey `base` (amount 0) to the pixel (amount 1) and beyond: brightness, contrast
    saturation,  // likewise from the pixel's own grey
    hue,         // turned by `amount` 256ths, a whole number within 0..255
    grayscale,
    solarize,   // values from `amount` on are inverted
    posterize,  // rounded down to multiples of `amount`, a power of two
};
struct PointStep {
    PointCode code;
    float amount = 0.0f, base = 0.0f;
};

// Such a chain as kernels do it: first and last they may look bytes up in tables, which stand for steps that take each
// value by itself.
struct PointProgram {
    const PointStep *begin, *end;  // what is computed in between
    bool looks_up_first, looks_up_last;
    uint8_t first[256], last[256];
};

struct KernelTable {
    const char* isa;
    // Pixels [height, width] at the size of `out`; `scratch` holds ResampleScratch::total() bytes.
    void (*resample)(const Rgb& source, int height, int width, const Taps& horizontal, const Taps& vertical,
                     uint8_t* scratch, const Canvas& out);
    void (*copy_pixels)(const Rgb& source, bool flip, const Canvas& out);
    void (*flip_horizontal)(const Planar& view);
    // Makes `to` of `count` steps, which it goes on referring to.
    void (*plan_points)(const PointStep* steps, int count, PointProgram& to);
    void (*points)(const Planar& view, const PointProgram& program);
    uint64_t (*luma_sum)(const Planar& view);  // of ITU-R 601's luma in eight bits
    void (*flip_vertical)(const Planar& view);
    // `matrix`: six numbers that take the target's x, y to the source's; `scratch` holds 3 * plane_size() bytes.
    void (*affine)(const Planar& view, const double* matrix, bool bilinear, const uint8_t* fill, uint8_t* scratch);
    void (*fill_box)(const Planar& view, int top, int left, int height, int width, const uint8_t* colour);
    void (*equalize)(const Planar& view);
    void (*autocontrast)(const Planar& view);
    void (*sharpness)(const Planar& view, float factor, uint8_t* scratch);  // 3 * plane_size() bytes
    void (*add_noise)(const Planar& view, float mean, float sigma, uint32_t key_a, uint32_t key_b);
    // Separable, reflecting at the borders; `weights` [kernel_size] sum to 1 << blur_weight_bits; `scratch` holds
    // blur_scratch() bytes.
    void (*blur)(const Planar& view, const int16_t* weights, int kernel_size, uint8_t* scratch);
    void (*pack_float32)(const Planar& view, const float* scale, const float* bias, bool channels_first, float* out);
    void (*pack_float16)(const Planar& view, const float* scale, const float* bias, bool channels_first, uint16_t* out);
    void (*pack_bfloat16)(const Planar& view, const float* scale, const float* bias, bool channels_first,
                          uint16_t* out);
    void (*pack_uint8)(const Planar& view, bool channels_first, uint8_t* out);

    // Decode the next `count` MCUs to where their blocks say, or pass over them. False for data that libjpeg-turbo has
    // to judge: damaged, or so extreme that implementations differ.
    bool (*decode_mcus)(EntropyBits& bits, Mcu& mcu, int count);
    // The same for the next MCUs in two places, [2] each: faster than one after the other.
    bool (*decode_two_rows)(EntropyBits* bits, Mcu* mcus, int count);
    bool (*skip_mcus)(EntropyBits& bits, const Mcu& mcu, int count);
    // Twice as many samples in a row, from `count` and one more on either side ("fancy upsampling": a triangle filter).
    void (*upsample_across)(const uint8_t* samples, int count, uint8_t* out);
    // The same for a row that lies between `near` and `far`, nearer to `near`. Up to 63 bytes behind rows are read or
    // written.
    void (*upsample_both)(const uint8_t* near, const uint8_t* far, int count, uint8_t* out);
    // A row of components -> rows of three planes; up to 63 bytes behind rows are read and written.
    void (*ycbcr_to_rgb)(const uint8_t* luma, const uint8_t* cb, const uint8_t* cr, int width, uint8_t* const* rgb);
};

// The table for the best instruction set of this machine, or the one that select_kernels() named.
const KernelTable& kernels();
// Names a table ("v2", "v3", "v4", "v4_vnni", "baseline") for tests; false if this machine or build has none of that
// name.
bool select_kernels(const char* isa);

}  // namespace ffcv
