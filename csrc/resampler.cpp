#include "resampler.h"

#include "kernels/kernels.h"

namespace ffcv {

void Resampler::resize(const Pixels& source, const Region& box, Interpolation interpolation, bool flip,
                       const Canvas& out) {
    const Rgb corner = source.at(box.top, box.left);
    if (box.height == out.height && box.width == out.width) {
        kernels().copy_pixels(corner, flip, out);
        return;
    }
    const bool enlarging = out.height > box.height || out.width > box.width;
    const Taps across = horizontal_.make(interpolation, box.width, out.width, enlarging, flip);
    const Taps down = vertical_.make(interpolation, box.height, out.height, enlarging, false);
    const size_t needed = ResampleScratch(box.height, box.width, out.height, out.width, across.taps, down.taps).total();
    if (scratch_.size() < needed) scratch_.resize(needed);
    kernels().resample(corner, box.height, box.width, across, down, scratch_.data(), out);
}

}  // namespace ffcv
