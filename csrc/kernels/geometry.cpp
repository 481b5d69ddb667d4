// Moving pixels: mirroring, affine maps, boxes of one colour.
#include "kernels/interleave.h"
#include "kernels/kernels.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

// Rounded down, and kept within `limit`: beyond it (and for NaN) a cast would be undefined.
int64_t floor_of(double value, int64_t limit) {
    if (!(value > static_cast<double>(-limit))) return -limit;
    if (value > static_cast<double>(limit)) return limit;
    const int64_t truncated = static_cast<int64_t>(value);
    return truncated - (value < static_cast<double>(truncated) ? 1 : 0);
}

// In 16.16 fixed point. A start and 65535 steps along both axes stay within 64 bits; what is clamped is far outside.
constexpr int64_t farthest_start = int64_t{1} << 61, longest_step = int64_t{1} << 44;

struct Map {
    const uint8_t* from;  // planar, as large as the view
    const Planar& to;
    const double* m;
    const uint8_t* fill;

    bool inside(int64_t x, int64_t y) const { return x >= 0 && x < to.width && y >= 0 && y < to.height; }

    void copy(int64_t x, int64_t y, size_t target) const {
        const bool known = inside(x, y);
        const size_t source =
            known ? static_cast<size_t>(y) * static_cast<size_t>(to.width) + static_cast<size_t>(x) : 0;
        for (int channel = 0; channel < 3; ++channel) {
            const uint8_t* const plane = from + static_cast<size_t>(channel) * to.plane_size();
            to.plane(channel)[target] = known ? plane[source] : fill[channel];
        }
    }

    // Whole pixels to the side: rows are copied.
    void shifted(int64_t right, int64_t down) const {
        const int64_t begin = right > 0 ? (right < to.width ? right : to.width) : 0;
        const int64_t end = right < 0 ? (-right < to.width ? to.width + right : 0) : to.width;
        for (int channel = 0; channel < 3; ++channel) {
            for (int row = 0; row < to.height; ++row) {
                uint8_t* const target = to.plane(channel) + static_cast<size_t>(row) * static_cast<size_t>(to.width);
                const int64_t y = row - down;
                if (y < 0 || y >= to.height || begin >= end) {
                    __builtin_memset(target, fill[channel], static_cast<size_t>(to.width));
                    continue;
                }
                const uint8_t* const plane = from + static_cast<size_t>(channel) * to.plane_size();
                const uint8_t* const source = plane + static_cast<size_t>(y) * static_cast<size_t>(to.width);
                __builtin_memset(target, fill[channel], static_cast<size_t>(begin));
                __builtin_memcpy(target + begin, source + (begin - right), static_cast<size_t>(end - begin));
                __builtin_memset(target + end, fill[channel], static_cast<size_t>(to.width - end));
            }
        }
    }

    // Pillow steps through the source in doubles when nothing turns ...
    void scaled() const {
        double y = m[5] + m[4] * 0.5;
        size_t target = 0;
        for (int row = 0; row < to.height; ++row, y += m[4]) {
            double x = m[2] + m[0] * 0.5;
            const int64_t source_row = y >= 0.0 && y < to.height ? static_cast<int64_t>(y) : -1;
            for (int column = 0; column < to.width; ++column, x += m[0])
                copy(x >= 0.0 && x < to.width ? static_cast<int64_t>(x) : -1, source_row, target++);
        }
    }

    // ... and in 16.16 fixed point when something does.
    void turned() const {
        const auto fixed = [](double value, int64_t limit) { return floor_of(value * 65536.0 + 0.5, limit); };
        int64_t row_x = fixed(m[2] + m[0] * 0.5 + m[1] * 0.5, farthest_start);
        int64_t row_y = fixed(m[5] + m[3] * 0.5 + m[4] * 0.5, farthest_start);
        const int64_t a = fixed(m[0], longest_step), b = fixed(m[1], longest_step);
        const int64_t d = fixed(m[3], longest_step), e = fixed(m[4], longest_step);
        size_t target = 0;
        for (int row = 0; row < to.height; ++row, row_x += b, row_y += e) {
            int64_t x = row_x, y = row_y;
            for (int column = 0; column < to.width; ++column, x += a, y += d) copy(x >> 16, y >> 16, target++);
        }
    }

    // Pillow's bilinear filter: borders repeat, results truncate.
    void blended() const {
        size_t target = 0;
        for (int row = 0; row < to.height; ++row) {
            for (int column = 0; column < to.width; ++column, ++target) {
                const double x = m[0] * (column + 0.5) + m[1] * (row + 0.5) + m[2];
                const double y = m[3] * (column + 0.5) + m[4] * (row + 0.5) + m[5];
                if (x >= 0.0 && x < to.width && y >= 0.0 && y < to.height)
                    blend(x - 0.5, y - 0.5, target);
                else
                    for (int channel = 0; channel < 3; ++channel) to.plane(channel)[target] = fill[channel];
            }
        }
    }

    void blend(double x, double y, size_t target) const {
        const int left = x < 0.0 ? -1 : static_cast<int>(x), top = y < 0.0 ? -1 : static_cast<int>(y);
        const double right_share = x - left, bottom_share = y - top;
        const size_t width = static_cast<size_t>(to.width);
        const size_t x0 = static_cast<size_t>(left < 0 ? 0 : left);
        const size_t x1 = static_cast<size_t>(left + 1 < to.width ? left + 1 : to.width - 1);
        const size_t y0 = static_cast<size_t>(top < 0 ? 0 : top) * width;
        const size_t y1 = static_cast<size_t>(top + 1 < to.height ? top + 1 : to.height - 1) * width;
        const uint8_t* plane = from;
        for (int channel = 0; channel < 3; ++channel, plane += to.plane_size()) {
            const int a = plane[y0 + x0], b = plane[y0 + x1], c = plane[y1 + x0], d = plane[y1 + x1];
            const double upper = a + (b - a) * right_share, lower = c + (d - c) * right_share;
            to.plane(channel)[target] = static_cast<uint8_t>(static_cast<int>(upper + (lower - upper) * bottom_share));
        }
    }
};

}  // namespace

namespace {

void copy_row(const uint8_t* const* from, PixelLayout layout, size_t width, uint8_t* const* to, PixelLayout to_layout) {
    if (layout == to_layout && layout == PixelLayout::interleaved)
        __builtin_memcpy(to[0], from[0], 3 * width);
    else if (layout == to_layout)
        for (int channel = 0; channel < 3; ++channel) __builtin_memcpy(to[channel], from[channel], width);
    else if (layout == PixelLayout::interleaved)
        split_pixels(from[0], width, to);
    else
        join_pixels(from, width, to[0]);
}

template <size_t step, size_t to_step>
void mirror_row(const uint8_t* const* from, size_t width, uint8_t* const* to) {
    for (int channel = 0; channel < 3; ++channel) {
        const uint8_t* const source = from[channel];
        uint8_t* const target = to[channel];
        for (size_t x = 0; x < width; ++x) target[to_step * x] = source[step * (width - 1 - x)];
    }
}

}  // namespace

void copy_pixels(const Rgb& source, bool flip, const Canvas& out) {
    const size_t width = static_cast<size_t>(out.width);
    const bool from_planes = source.layout == PixelLayout::planes, to_planes = out.layout == PixelLayout::planes;
    const auto mirror = from_planes ? (to_planes ? mirror_row<1, 1> : mirror_row<1, 3>)
                                    : (to_planes ? mirror_row<3, 1> : mirror_row<3, 3>);
    for (int y = 0; y < out.height; ++y) {
        const uint8_t* from[3];
        for (int channel = 0; channel < 3; ++channel)
            from[channel] = source.channels[channel] + static_cast<size_t>(y) * source.stride;
        uint8_t* to[3];
        out.row(y, to);
        if (flip)
            mirror(from, width, to);
        else
            copy_row(from, source.layout, width, to, out.layout);
    }
}

void flip_horizontal(const Planar& view) {
    const size_t width = static_cast<size_t>(view.width);
    for (size_t y = 0; y < 3 * static_cast<size_t>(view.height); ++y) {
        uint8_t* const row = view.data + y * width;
        for (size_t x = 0; x < width / 2; ++x) {
            const uint8_t left = row[x];
            row[x] = row[width - 1 - x];
            row[width - 1 - x] = left;
        }
    }
}

void flip_vertical(const Planar& view) {
    const size_t width = static_cast<size_t>(view.width), height = static_cast<size_t>(view.height);
    for (int channel = 0; channel < 3; ++channel) {
        for (size_t y = 0; y < height / 2; ++y) {
            uint8_t* const above = view.plane(channel) + y * width;
            uint8_t* const below = view.plane(channel) + (height - 1 - y) * width;
            for (size_t x = 0; x < width; ++x) {
                const uint8_t value = above[x];
                above[x] = below[x];
                below[x] = value;
            }
        }
    }
}

void affine(const Planar& view, const double* matrix, bool bilinear, const uint8_t* fill, uint8_t* scratch) {
    __builtin_memcpy(scratch, view.data, 3 * view.plane_size());
    const Map map{scratch, view, matrix, fill};
    const double right = -matrix[2], down = -matrix[5];
    const bool moves_only = matrix[0] == 1.0 && matrix[1] == 0.0 && matrix[3] == 0.0 && matrix[4] == 1.0;
    const int64_t columns = floor_of(right, farthest_start), rows = floor_of(down, farthest_start);
    if (moves_only && right == static_cast<double>(columns) && down == static_cast<double>(rows))
        map.shifted(columns, rows);
    else if (bilinear)
        map.blended();
    else if (matrix[1] == 0.0 && matrix[3] == 0.0)
        map.scaled();
    else
        map.turned();
}

void fill_box(const Planar& view, int top, int left, int height, int width, const uint8_t* colour) {
    const int bottom = top + height < view.height ? top + height : view.height;
    const int right = left + width < view.width ? left + width : view.width;
    top = top < 0 ? 0 : top;
    left = left < 0 ? 0 : left;
    for (int channel = 0; channel < 3; ++channel) {
        for (int y = top; y < bottom; ++y) {
            uint8_t* const row = view.plane(channel) + static_cast<size_t>(y) * static_cast<size_t>(view.width);
            for (int x = left; x < right; ++x) row[x] = colour[channel];
        }
    }
}

}  // namespace FFCV_ISA
}  // namespace ffcv
