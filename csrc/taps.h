// Filter weights along one axis, in fixed point.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kernels.h"

namespace ffcv {

// How a view is resized. The first three are Pillow's (antialiased where that means something), `area` is OpenCV's
// INTER_AREA: exact pixel areas when both sides shrink, else its narrow linear interpolation.
enum class Interpolation : int { bilinear = 0, bicubic = 1, nearest = 2, area = 3 };

// Which input pixels make an output pixel, and with what weight, along one axis.
class TapTable {
public:
    // `enlarging`: at least one of the two axes grows (only `area` asks). `mirrored`: the last output comes first.
    Taps make(Interpolation interpolation, int in_size, int out_size, bool enlarging, bool mirrored);

private:
    struct Window {
        int begin = 0, end = 0;  // input positions begin..end-1
        double centre = 0, low = 0, high = 0, fraction = 0;
    };

    Window window(Interpolation interpolation, int i, int in_size, double scale, bool enlarging) const;
    double weight(Interpolation interpolation, const Window& window, int position, double narrowing,
                  bool enlarging) const;

    std::vector<Window> windows_;
    std::vector<int32_t> first_, weights_;
    std::vector<double> exact_;
};

// The weights of a Gaussian; keeps its memory.
class GaussianTaps {
public:
    // An odd number of weights, at most `kernel_size`: those at the ends that come to nothing are left out.
    std::span<const int16_t> make(double sigma, int kernel_size);

private:
    std::vector<double> exact_;
    std::vector<int16_t> weights_;
};

}  // namespace ffcv
