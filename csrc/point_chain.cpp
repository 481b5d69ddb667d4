#include "point_chain.h"

namespace ffcv {

bool PointChain::add(OpCode code, const float* p) {
    switch (code) {
        case OpCode::color_jitter:
            add_color_jitter(p);
            return true;
        case OpCode::grayscale:
            if (p[0] != 0.0f) steps_.push_back({PointCode::grayscale});
            return true;
        case OpCode::solarize:
            if (p[0] != 0.0f) steps_.push_back({PointCode::solarize, p[1]});
            return true;
        case OpCode::posterize: {
            const int dropped = 8 - std::max(0, static_cast<int>(std::min(p[0], 8.0f)));
            if (dropped > 0) steps_.push_back({PointCode::posterize, static_cast<float>(1 << dropped)});
            return true;
        }
        default:
            return false;
    }
}

void PointChain::add_color_jitter(const float* parameters) {
    // The order is the index of one of the 24 permutations of (brightness, contrast, saturation, hue), in
    // lexicographic order: its digits in the factorial number system choose from what is left.
    int left[4] = {0, 1, 2, 3};
    int index = static_cast<int>(parameters[4]);
    for (int remaining = 4, factorial = 6; remaining > 0; --remaining) {
        const int digit = index / factorial;
        index %= factorial;
        const int chosen = left[digit];
        std::copy(left + digit + 1, left + remaining, left + digit);
        if (remaining > 1) factorial /= remaining - 1;
        const float value = parameters[chosen];
        if (value == (chosen == 3 ? 0.0f : 1.0f)) continue;
        if (chosen == 1) contrasts_.push_back(steps_.size());
        if (chosen <= 1) steps_.push_back({PointCode::blend, value});
        if (chosen == 2) steps_.push_back({PointCode::saturation, value});
        // torchvision adds the shift as a wrapping byte: int(turns * 255), truncated towards zero
        if (chosen == 3) steps_.push_back({PointCode::hue, static_cast<float>(static_cast<int>(value * 255.0f) & 255)});
    }
}

}  // namespace ffcv
