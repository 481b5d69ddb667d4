// Resizing regions of images.
#pragma once
#include <cstdint>
#include <vector>

#include "jpeg.h"
#include "taps.h"

namespace ffcv {

// Keeps its memory: one per thread, reused for every image of that thread.
class Resampler {
public:
    // `box`, a part of `source`, at the size of `out`.
    void resize(const Pixels& source, const Region& box, Interpolation interpolation, bool flip, const Canvas& out);

private:
    TapTable horizontal_, vertical_;
    std::vector<uint8_t> scratch_;
};

}  // namespace ffcv
