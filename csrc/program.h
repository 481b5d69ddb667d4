// What to do to an image, as plain data: made by Python for a whole batch, read by the hot loop.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "jpeg.h"
#include "storage.h"
#include "taps.h"

namespace ffcv {

// The operations with the number of their parameters' columns, one row a sample. A row that says "identity" leaves the
// image alone, and so does a row of any operation that begins with NaN.
#define FFCV_OPCODES(X)                                                                                                \
    X(flip_horizontal, 1) /* applied */                                                                                \
    X(color_jitter, 5)    /* brightness, contrast, saturation factors; hue shift in turns; order (0..23) */            \
    X(grayscale, 1)       /* applied */                                                                                \
    X(solarize, 2)        /* applied, threshold */                                                                     \
    X(gaussian_blur, 2)   /* sigma in pixels (0: not applied), kernel size */                                          \
    X(flip_vertical, 1)   /* applied */                                                                                \
    X(affine, 16)         /* bilinear, R, G, B outside; six doubles (target -> source), each as a sum of two floats */ \
    X(fill_box, 7)        /* top, left, height, width (0: not applied), R, G, B */                                     \
    X(posterize, 1)       /* bits that are kept (8: identity) */                                                       \
    X(equalize, 1)        /* applied */                                                                                \
    X(autocontrast, 1)    /* applied */                                                                                \
    X(sharpness, 1)       /* factor (1: identity) */                                                                   \
    X(noise, 4)           /* mean and sigma on the 0..255 scale (both 0: identity), two keys of 24 bits */

enum class OpCode : int {
#define FFCV_OPCODE(name, columns) name,
    FFCV_OPCODES(FFCV_OPCODE)
#undef FFCV_OPCODE
};

inline constexpr size_t num_columns[] = {
#define FFCV_COLUMNS(name, columns) columns,
    FFCV_OPCODES(FFCV_COLUMNS)
#undef FFCV_COLUMNS
};

struct Op {
    OpCode code;
    const float* parameters;  // [batch, num_columns]
    size_t num_columns;

    const float* row(size_t sample) const { return parameters + sample * num_columns; }
};

enum class DType : int { uint8, float16, bfloat16, float32 };

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
    bool pad;              // boxes keep their size, in the top left corner, with zeros around
    Interpolation interpolation;
    std::vector<Op> ops;
    Output output;

    Region box(size_t sample) const {
        const int32_t* b = boxes + 4 * sample;
        return {b[0], b[1], b[2], b[3]};
    }
};

enum class ImageMode : uint8_t { jpeg = 0, raw = 1 };

// The encoded images of a batch, inside one span of memory or in a file.
struct ImageBatch {
    std::span<const uint8_t> storage;
    const uint64_t* offsets;  // [batch]
    const uint64_t* sizes;    // [batch], bytes
    const uint8_t* modes;     // [batch], ImageMode
    const int32_t* shapes;    // [batch, 2]: height, width
    size_t size;
    const uint32_t* checksums = nullptr;  // [batch], CRC32C of the bytes; null: not checked
    const uint64_t* behind = nullptr;     // [batch], bytes that may be entry points, behind the image's; null: none
    const uint8_t* compared = nullptr;    // [batch]: 0 where the bytes need not be; null: all are
    const StorageFile* file = nullptr;    // where the bytes are read from; null: from `storage`

    bool is_compared(size_t sample) const {
        return checksums != nullptr && (compared == nullptr || compared[sample] != 0);
    }
};

}  // namespace ffcv
