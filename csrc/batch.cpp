#include "batch.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>

#include "kernels/kernels.h"

namespace ffcv {

namespace {

uint8_t* grown(std::vector<uint8_t>& buffer, size_t bytes) {
    if (buffer.size() < bytes) buffer.resize(bytes);
    return buffer.data();
}

// Rounds `exact` weights (which sum to 1) to fixed point such that they still sum to 1: flat areas keep their value.
void quantise(const double* exact, int count, int32_t* weights) {
    int sum = 0, largest = 0;
    for (int k = 0; k < count; ++k) {
        weights[k] = static_cast<int32_t>(std::lround(exact[k] * (1 << weight_bits)));
        sum += weights[k];
        if (weights[k] > weights[largest]) largest = k;
    }
    weights[largest] += (1 << weight_bits) - sum;
}

// The antialiased triangle filter of Pillow's BILINEAR: its support grows with the scale when shrinking.
struct TapTable {
    std::vector<int32_t> first;
    std::vector<int32_t> weights;
    int taps = 0;

    Taps make(int in_size, int out_size) {
        const double scale = static_cast<double>(in_size) / out_size;
        const double support = std::max(scale, 1.0);
        const auto begin_of = [&](double centre) { return std::max(0, static_cast<int>(centre - support + 0.5)); };
        const auto end_of = [&](double centre) { return std::min(in_size, static_cast<int>(centre + support + 0.5)); };
        taps = 0;
        for (int i = 0; i < out_size; ++i) {
            const double centre = (i + 0.5) * scale;
            taps = std::max(taps, end_of(centre) - begin_of(centre));
        }
        first.resize(static_cast<size_t>(out_size));
        weights.assign(static_cast<size_t>(out_size) * static_cast<size_t>(taps), 0);
        exact_.resize(static_cast<size_t>(taps));
        for (int i = 0; i < out_size; ++i) {
            const double centre = (i + 0.5) * scale;
            const int begin = begin_of(centre), end = end_of(centre);
            const int start = std::min(begin, in_size - taps);  // all taps inside; the extra ones weigh nothing
            double sum = 0.0;
            for (int k = 0; k < taps; ++k) {
                const int position = start + k;
                const double distance = std::abs(position - centre + 0.5) / support;
                const bool inside = position >= begin && position < end;
                exact_[static_cast<size_t>(k)] = inside ? std::max(0.0, 1.0 - distance) : 0.0;
                sum += exact_[static_cast<size_t>(k)];
            }
            for (double& weight : exact_) weight /= sum;
            first[static_cast<size_t>(i)] = start;
            quantise(exact_.data(), taps, &weights[static_cast<size_t>(i) * static_cast<size_t>(taps)]);
        }
        return {first.data(), weights.data(), taps};
    }

private:
    std::vector<double> exact_;
};

Region union_of_boxes(std::span<const ViewProgram> views, size_t sample) {
    Region all = views[0].box(sample);
    for (const ViewProgram& view : views.subspan(1)) {
        const Region box = view.box(sample);
        const int bottom = std::max(all.top + all.height, box.top + box.height);
        const int right = std::max(all.left + all.width, box.left + box.width);
        all.top = std::min(all.top, box.top);
        all.left = std::min(all.left, box.left);
        all.height = bottom - all.top;
        all.width = right - all.left;
    }
    return all;
}

void check_boxes(std::span<const ViewProgram> views, size_t sample, int height, int width) {
    for (const ViewProgram& view : views) {
        const Region box = view.box(sample);
        if (box.top < 0 || box.left < 0 || box.height < 1 || box.width < 1 || box.top > height - box.height ||
            box.left > width - box.width)
            throw DecodeError("crop (top " + std::to_string(box.top) + ", left " + std::to_string(box.left) + ", " +
                              std::to_string(box.height) + "x" + std::to_string(box.width) + ") is not inside the " +
                              std::to_string(height) + "x" + std::to_string(width) + " image");
    }
}

size_t item_size(DType dtype) { return dtype == DType::uint8 ? 1 : dtype == DType::float16 ? 2 : 4; }

uint8_t* slot(const ViewProgram& program, size_t sample) {
    const size_t values = 3 * static_cast<size_t>(program.height) * static_cast<size_t>(program.width);
    return program.output.data + sample * values * item_size(program.output.dtype);
}

void pack(const ViewProgram& program, size_t sample, const Planar& image) {
    const Output& to = program.output;
    uint8_t* const target = slot(program, sample);
    switch (to.dtype) {
        case DType::uint8:
            return kernels().pack_uint8(image, to.channels_first, target);
        case DType::float16:
            return kernels().pack_float16(image, to.scale, to.bias, to.channels_first,
                                          reinterpret_cast<uint16_t*>(target));
        case DType::float32:
            return kernels().pack_float32(image, to.scale, to.bias, to.channels_first,
                                          reinterpret_cast<float*>(target));
    }
}

void clear(const ViewProgram& program, size_t sample) {
    std::memset(slot(program, sample), 0, static_cast<size_t>(slot(program, 1) - slot(program, 0)));
}

}  // namespace

// What one thread needs to render a sample; grows to the largest image that it has seen.
struct Renderer::Worker {
    JpegDecoder decoder;
    TapTable horizontal, vertical;
    std::vector<uint8_t> decoded, view, scratch;
    std::vector<int32_t> blur_weights;
    std::vector<double> blur_exact;

    Pixels decode(const ImageBatch& images, size_t sample, const Region& wanted);
    void resample(const Pixels& source, const Region& box, bool flip, const Planar& out);
    void apply(const Op& op, size_t sample, const Planar& image);
    void color_jitter(const float* parameters, const Planar& image);
    void blur(float sigma, int kernel_size, const Planar& image);
    void render(const ImageBatch& images, std::span<const ViewProgram> views, size_t sample);
};

// The hot loop: decode once, then every view from crop to packed output.
void Renderer::Worker::render(const ImageBatch& images, std::span<const ViewProgram> views, size_t sample) {
    check_boxes(views, sample, images.shapes[2 * sample], images.shapes[2 * sample + 1]);
    const Pixels source = decode(images, sample, union_of_boxes(views, sample));
    for (const ViewProgram& program : views) {
        const size_t pixels = static_cast<size_t>(program.height) * static_cast<size_t>(program.width);
        const Planar image{grown(view, 3 * pixels), program.height, program.width};
        resample(source, program.box(sample), program.flips != nullptr && program.flips[sample] != 0, image);
        for (const Op& op : program.ops) apply(op, sample, image);
        pack(program, sample, image);
    }
}

Pixels Renderer::Worker::decode(const ImageBatch& images, size_t sample, const Region& wanted) {
    const uint64_t offset = images.offsets[sample], size = images.sizes[sample];
    if (offset > images.storage.size() || size > images.storage.size() - offset)
        throw DecodeError("its bytes (offset " + std::to_string(offset) + ", size " + std::to_string(size) +
                          ") lie outside the file");
    const std::span<const uint8_t> bytes = images.storage.subspan(offset, size);
    if (static_cast<ImageMode>(images.modes[sample]) == ImageMode::jpeg) return decoder.decode(bytes, wanted, decoded);
    const int height = images.shapes[2 * sample], width = images.shapes[2 * sample + 1];
    const size_t stride = static_cast<size_t>(width) * 3;
    if (bytes.size() < stride * static_cast<size_t>(height))
        throw DecodeError("raw image of " + std::to_string(height) + "x" + std::to_string(width) + " has only " +
                          std::to_string(bytes.size()) + " bytes");
    return {bytes.data(), stride, {0, 0, height, width}};  // raw pixels are read where they lie
}

void Renderer::Worker::resample(const Pixels& source, const Region& box, bool flip, const Planar& out) {
    const uint8_t* const corner = source.at(box.top, box.left);
    if (box.height == out.height && box.width == out.width) {
        kernels().deinterleave(corner, source.stride, flip, out);
        return;
    }
    const Taps across = horizontal.make(box.width, out.width), down = vertical.make(box.height, out.height);
    kernels().resample(corner, source.stride, box.height, box.width, across, down, flip,
                       grown(scratch, resample_scratch(box.height, box.width, out.width)), out);
}

void Renderer::Worker::apply(const Op& op, size_t sample, const Planar& image) {
    const float* const p = op.row(sample);
    switch (op.code) {
        case OpCode::flip_horizontal:
            if (p[0] != 0.0f) kernels().flip_horizontal(image);
            return;
        case OpCode::color_jitter:
            return color_jitter(p, image);
        case OpCode::grayscale:
            if (p[0] != 0.0f) kernels().grayscale(image);
            return;
        case OpCode::solarize:
            if (p[0] != 0.0f) kernels().solarize(image, static_cast<int>(p[1]));
            return;
        case OpCode::gaussian_blur:
            if (p[0] > 0.0f) blur(p[0], static_cast<int>(p[1]), image);
            return;
    }
}

void Renderer::Worker::color_jitter(const float* parameters, const Planar& image) {
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
        if (chosen == 0 && value != 1.0f) kernels().brightness(image, value);
        if (chosen == 1 && value != 1.0f) kernels().contrast(image, value);
        if (chosen == 2 && value != 1.0f) kernels().saturation(image, value);
        if (chosen == 3 && value != 0.0f) kernels().hue(image, value);
    }
}

void Renderer::Worker::blur(float sigma, int kernel_size, const Planar& image) {
    blur_weights.resize(static_cast<size_t>(kernel_size));
    blur_exact.resize(static_cast<size_t>(kernel_size));
    double sum = 0.0;
    for (int k = 0; k < kernel_size; ++k) {
        const double x = (k - kernel_size / 2) / static_cast<double>(sigma);
        sum += blur_exact[static_cast<size_t>(k)] = std::exp(-0.5 * x * x);
    }
    for (double& weight : blur_exact) weight /= sum;
    quantise(blur_exact.data(), kernel_size, blur_weights.data());
    int zeros = 0;  // at either end: taps that weigh nothing in 14 bits cost nothing
    while (2 * zeros + 1 < kernel_size && blur_weights[static_cast<size_t>(zeros)] == 0) ++zeros;
    const int taps = kernel_size - 2 * zeros;
    if (taps == 1) return;
    kernels().blur(image, blur_weights.data() + zeros, taps,
                   grown(scratch, blur_scratch(image.height, image.width, taps)));
}

Renderer::Renderer(size_t num_threads) : pool_(num_threads) {
    for (size_t i = 0; i < pool_.size(); ++i) workers_.push_back(std::make_unique<Worker>());
}

Renderer::~Renderer() = default;

std::vector<SampleError> Renderer::render(const ImageBatch& images, std::span<const ViewProgram> views) {
    std::vector<SampleError> errors;
    std::mutex mutex;
    if (views.empty()) return errors;
    pool_.run(images.size, [&](size_t worker, size_t sample) {
        const auto failed = [&](const char* message) {
            for (const ViewProgram& view : views) clear(view, sample);
            const std::lock_guard lock(mutex);
            errors.push_back({sample, message});
        };
        try {
            workers_[worker]->render(images, views, sample);
        } catch (const std::exception& error) {
            failed(error.what());
        }
    });
    std::ranges::sort(errors, {}, &SampleError::position);
    return errors;
}

}  // namespace ffcv
