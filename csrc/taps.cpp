#include "taps.h"

#include <algorithm>
#include <cmath>

namespace ffcv {

namespace {

int32_t rounded(double x) { return static_cast<int32_t>(x < 0.0 ? x - 0.5 : x + 0.5); }

double triangle(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

double cubic(double x) {  // Catmull-Rom, Pillow's BICUBIC
    constexpr double a = -0.5;
    x = std::abs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * a : 0.0;
}

}  // namespace

TapTable::Window TapTable::window(Interpolation interpolation, int i, int in_size, double scale, bool enlarging) const {
    Window w{};
    w.centre = (i + 0.5) * scale;
    if (interpolation == Interpolation::area && enlarging) {
        w.begin = std::min(static_cast<int>(i * scale), in_size - 1);
        const float fraction = static_cast<float>((i + 1) - (w.begin + 1) / scale);
        w.fraction = fraction <= 0.0f ? 0.0 : fraction - std::floor(fraction);
        w.end = std::min(w.begin + 2, in_size);
    } else if (interpolation == Interpolation::area) {
        constexpr double sliver = 1e-3;  // OpenCV leaves out shares of a pixel this small
        w.low = i * scale;
        w.high = std::min((i + 1) * scale, static_cast<double>(in_size));
        w.begin = std::min(static_cast<int>(w.low + sliver), in_size - 1);
        w.end = std::clamp(static_cast<int>(std::ceil(w.high - sliver)), w.begin + 1, in_size);
    } else {
        const double support = std::max(scale, 1.0) * (interpolation == Interpolation::bicubic ? 2.0 : 1.0);
        w.begin = std::max(0, static_cast<int>(w.centre - support + 0.5));
        w.end = std::min(in_size, static_cast<int>(w.centre + support + 0.5));
    }
    return w;
}

double TapTable::weight(Interpolation interpolation, const Window& w, int position, double narrowing,
                        bool enlarging) const {
    if (position < w.begin || position >= w.end) return 0.0;
    const double distance = (position - w.centre + 0.5) * narrowing;
    switch (interpolation) {
        case Interpolation::bilinear:
            return triangle(distance);
        case Interpolation::bicubic:
            return cubic(distance);
        case Interpolation::nearest:
            return 1.0;
        case Interpolation::area:
            break;
    }
    if (enlarging) return position == w.begin ? 1.0 - w.fraction : w.fraction;
    return std::max(0.0, std::min(position + 1.0, w.high) - std::max(static_cast<double>(position), w.low));
}

Taps TapTable::make(Interpolation interpolation, int in_size, int out_size, bool enlarging, bool mirrored) {
    double scale = static_cast<double>(in_size) / out_size;
    if (interpolation == Interpolation::area)
        scale = 1.0 / (static_cast<double>(out_size) / in_size);  // OpenCV's roundings
    const size_t count = static_cast<size_t>(out_size);
    windows_.resize(count);
    int taps = 0;
    double nearest = 0.5 * scale;  // summed up, as Pillow does, and not multiplied
    for (int i = 0; i < out_size; ++i, nearest += scale) {
        Window& w = windows_[static_cast<size_t>(i)];
        const int position = std::min(static_cast<int>(nearest), in_size - 1);
        w = interpolation == Interpolation::nearest ? Window{.begin = position, .end = position + 1}
                                                    : window(interpolation, i, in_size, scale, enlarging);
        taps = std::max(taps, w.end - w.begin);
    }
    if (mirrored) std::reverse(windows_.begin(), windows_.end());
    windows_.resize(round_up(count, outputs_together), windows_.back());
    first_.resize(windows_.size());
    weights_.resize(windows_.size() * static_cast<size_t>(taps));
    exact_.resize(static_cast<size_t>(taps));
    const double narrowing = 1.0 / std::max(scale, 1.0);
    for (size_t i = 0; i < windows_.size(); ++i) {
        const Window& w = windows_[i];
        first_[i] = std::min(w.begin, in_size - taps);  // all taps inside; the extra ones weigh nothing
        double sum = 0.0;
        for (int k = 0; k < taps; ++k)
            sum += exact_[static_cast<size_t>(k)] = weight(interpolation, w, first_[i] + k, narrowing, enlarging);
        for (size_t k = 0; k < exact_.size(); ++k)
            weights_[k * windows_.size() + i] = rounded(exact_[k] * (1.0 / sum) * (1 << weight_bits));
    }
    return {first_.data(), weights_.data(), taps, windows_.size()};
}

std::span<const int16_t> GaussianTaps::make(double sigma, int kernel_size) {
    exact_.resize(static_cast<size_t>(kernel_size));
    weights_.resize(static_cast<size_t>(kernel_size));
    double sum = 0.0;
    for (int k = 0; k < kernel_size; ++k) {
        const double x = (k - kernel_size / 2) / sigma;
        sum += exact_[static_cast<size_t>(k)] = std::exp(-0.5 * x * x);
    }
    int32_t total = 0;
    for (size_t k = 0; k < exact_.size(); ++k)
        total += weights_[k] = static_cast<int16_t>(rounded(exact_[k] / sum * (1 << blur_weight_bits)));
    int16_t& centre = weights_[weights_.size() / 2];
    centre = static_cast<int16_t>(centre + (1 << blur_weight_bits) - total);  // flat areas keep their value
    size_t zeros = 0;
    while (2 * zeros + 1 < weights_.size() && weights_[zeros] == 0) ++zeros;
    return std::span(weights_).subspan(zeros, weights_.size() - 2 * zeros);
}

}  // namespace ffcv
