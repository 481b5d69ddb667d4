// Neighbouring operations on single pixels, collected and then done together, part by part of the view.
#pragma once
#include <algorithm>
#include <vector>

#include "kernels/kernels.h"
#include "program.h"

namespace ffcv {

class PointChain {
public:
    // Takes an operation's row of parameters; false if it looks at other pixels too, and so cannot join.
    bool add(OpCode code, const float* parameters);

    // Does what was collected, and forgets it; `finish` gets each part of the view while it is in the cache, and the
    // number of its first pixel.
    template <class Finish>
    void run(const Planar& view, Finish finish) {
        size_t done = 0;
        for (const size_t contrast : contrasts_) {  // its grey is the mean of what the steps before it leave
            double sum = 0.0;
            pass(view, done, contrast, [&](const Planar& part, size_t) { sum += kernels().luma_sum(part); });
            steps_[contrast].base = static_cast<float>(static_cast<int>(sum / view.plane_size() + 0.5));
            done = contrast;
        }
        pass(view, done, steps_.size(), finish);
        steps_.clear();
        contrasts_.clear();
    }
    void run(const Planar& view) {
        if (!steps_.empty()) run(view, [](const Planar&, size_t) {});
    }

private:
    template <class Finish>
    void pass(const Planar& view, size_t first_step, size_t last_step, Finish finish) {
        const size_t pixels = view.plane_size();
        const size_t most = first_step == last_step ? pixels : tile_pixels;
        if (first_step != last_step)
            kernels().plan_points(steps_.data() + first_step, static_cast<int>(last_step - first_step), program_);
        for (size_t begin = 0; begin < pixels; begin += most) {
            const Planar part{view.data + begin, 1, static_cast<int>(std::min(most, pixels - begin)),
                              view.plane_stride};
            if (first_step != last_step) kernels().points(part, program_);
            finish(part, begin);
        }
    }

    void add_color_jitter(const float* parameters);

    PointProgram program_;
    std::vector<PointStep> steps_;
    std::vector<size_t> contrasts_;  // which steps blend with the view's mean grey
};

}  // namespace ffcv
