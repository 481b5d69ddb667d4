// What to do to an image, as plain data: made by Python for a whole batch, read by the hot loop.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "jpeg.h"

namespace ffcv {

// The columns of an operation's parameters, one row a sample; a row that says "identity" leaves the image alone.
enum class OpCode : int {
    flip_horizontal = 0,  // applied
    color_jitter = 1,     // brightness, contrast, saturation factors; hue shift in turns; order (0..23)
    grayscale = 2,        // applied
    solarize = 3,         // applied, threshold
    gaussian_blur = 4,    // sigma in pixels (0: not applied), kernel size
};

struct Op {
    OpCode code;
    const float* parameters;  // [batch, num_columns]
    size_t num_columns;

    const float* row(size_t sample) const { return parameters + sample * num_columns; }
};

enum class DType : int { uint8 = 0, float16 = 1, float32 = 2 };

// Where a view goes, and as what: value = pixel * scale + bias for the float types.
struct Output {
    uint8_t* data;  // [batch, height, width, 3] or, channels first, [batch, 3, height, width]
    DType dtype;
    bool channels_first;
    float scale[3], bias[3];
};

struct ViewProgram {
    const int32_t* boxes;  // [batch, 4]: top, left, height, width in the source image
    const uint8_t* flips;  // [batch], or null: mirror left and right while resampling
    int height, width;     // of the rendered view
    std::vector<Op> ops;
    Output output;

    Region box(size_t sample) const {
        const int32_t* b = boxes + 4 * sample;
        return {b[0], b[1], b[2], b[3]};
    }
};

enum class ImageMode : uint8_t { jpeg = 0, raw = 1 };

// The encoded images of a batch, inside one span of memory (the mapped file).
struct ImageBatch {
    std::span<const uint8_t> storage;
    const uint64_t* offsets;  // [batch]
    const uint64_t* sizes;    // [batch], bytes
    const uint8_t* modes;     // [batch], ImageMode
    const int32_t* shapes;    // [batch, 2]: height, width
    size_t size;
};

}  // namespace ffcv
