// Pillow's ImageEnhance.Sharpness: a blend of the view with itself smoothed by (1 1 1, 1 5 1, 1 1 1) / 13.
#include "kernels/kernels.h"

namespace ffcv {
namespace FFCV_ISA {

void sharpness(const Planar& view, float factor, uint8_t* scratch) {
    const size_t width = static_cast<size_t>(view.width);
    __builtin_memcpy(scratch, view.data, 3 * view.plane_size());
    for (int channel = 0; channel < 3; ++channel) {
        const uint8_t* const plane = scratch + static_cast<size_t>(channel) * view.plane_size();
        for (int y = 1; y < view.height - 1; ++y) {  // the border is its own smoothed version
            const uint8_t* const row = plane + static_cast<size_t>(y) * width;
            const uint8_t *const above = row - width, *const below = row + width;
            uint8_t* const out = view.plane(channel) + static_cast<size_t>(y) * width;
            for (size_t x = 1; x + 1 < width; ++x) {
                const int sum = above[x - 1] + above[x] + above[x + 1] + row[x - 1] + 5 * row[x] + row[x + 1] +
                                below[x - 1] + below[x] + below[x + 1];
                const int smooth = (2 * sum + 13) / 26;  // sum / 13, rounded; there are no ties
                float mixed = static_cast<float>(smooth) + factor * static_cast<float>(row[x] - smooth);
                mixed = mixed < 0.0f ? 0.0f : mixed;
                mixed = mixed > 255.0f ? 255.0f : mixed;
                out[x] = static_cast<uint8_t>(static_cast<int>(mixed));
            }
        }
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
