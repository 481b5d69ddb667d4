#include "batch.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>

#include "checksum.h"
#include "grown.h"
#include "kernels/kernels.h"
#include "point_chain.h"
#include "resampler.h"

namespace ffcv {

namespace {

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

size_t item_size(DType dtype) { return dtype == DType::uint8 ? 1 : dtype == DType::float32 ? 4 : 2; }

uint8_t* slot(const ViewProgram& program, size_t sample) {
    const size_t values = 3 * static_cast<size_t>(program.height) * static_cast<size_t>(program.width);
    return program.output.data + sample * values * item_size(program.output.dtype);
}

// The view lies in the batch as it is rendered: operations work on planes, but a view without any may be interleaved.
bool needs_no_packing(const ViewProgram& program) {
    const Output& to = program.output;
    return to.dtype == DType::uint8 && (to.channels_first || (program.ops.empty() && !program.pad));
}

PixelLayout layout_of(const ViewProgram& program) {
    const bool is_final = needs_no_packing(program) && !program.output.channels_first;
    return is_final ? PixelLayout::interleaved : PixelLayout::planes;
}

// `image`: the view, or a part of it that begins at pixel `begin`.
void pack(const ViewProgram& program, size_t sample, const Planar& image, size_t begin) {
    if (needs_no_packing(program)) return;
    const Output& to = program.output;
    uint8_t* const target = slot(program, sample) + begin * (to.channels_first ? 1 : 3) * item_size(to.dtype);
    switch (to.dtype) {
        case DType::uint8:
            return kernels().pack_uint8(image, to.channels_first, target);
        case DType::float16:
            return kernels().pack_float16(image, to.scale, to.bias, to.channels_first,
                                          reinterpret_cast<uint16_t*>(target));
        case DType::bfloat16:
            return kernels().pack_bfloat16(image, to.scale, to.bias, to.channels_first,
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
    Resampler resampler;
    GaussianTaps gaussian;
    PointChain chain;
    std::vector<uint8_t> encoded, decoded, view, scratch;

    std::span<const uint8_t> read(const ImageBatch& images, size_t sample, size_t begin, size_t end);
    Pixels decode(const ImageBatch& images, size_t sample, const Region& wanted);
    void place(const Pixels& source, const Region& box, bool flip, const Planar& out);
    void apply(OpCode code, const float* p, const Planar& image);
    void affine(const float* parameters, const Planar& image);
    void fill_box(const float* parameters, const Planar& image);
    void blur(float sigma, int kernel_size, const Planar& image);
    void render(const ImageBatch& images, std::span<const ViewProgram> views, size_t sample,
                const std::function<bool()>& is_cancelled);
};

struct Renderer::Threads {
    ThreadPool pool;
    std::vector<std::unique_ptr<Worker>> workers;

    explicit Threads(size_t count) : pool(count) {
        for (size_t i = 0; i < pool.size(); ++i) workers.push_back(std::make_unique<Worker>());
    }
};

// The hot loop: decode once, then every view from crop to packed output. Many views of a large image take seconds, for
// which nobody waits who has cancelled.
void Renderer::Worker::render(const ImageBatch& images, std::span<const ViewProgram> views, size_t sample,
                              const std::function<bool()>& is_cancelled) {
    check_boxes(views, sample, images.shapes[2 * sample], images.shapes[2 * sample + 1]);
    const Pixels source = decode(images, sample, union_of_boxes(views, sample));
    for (const ViewProgram& program : views) {
        if (is_cancelled()) return;
        const size_t pixels = static_cast<size_t>(program.height) * static_cast<size_t>(program.width);
        uint8_t* const rendered = needs_no_packing(program) ? slot(program, sample) : grown(view, 3 * pixels);
        const Planar image{rendered, program.height, program.width};
        const bool flip = program.flips != nullptr && program.flips[sample] != 0;
        if (program.pad)
            place(source, program.box(sample), flip, image);
        else
            resampler.resize(source, program.box(sample), program.interpolation, flip,
                             {rendered, program.height, program.width, layout_of(program)});
        for (const Op& op : program.ops) {
            const float* const parameters = op.row(sample);
            if (std::isnan(parameters[0]) || chain.add(op.code, parameters)) continue;
            chain.run(image);
            apply(op.code, parameters, image);
        }
        chain.run(image, [&](const Planar& part, size_t begin) { pack(program, sample, part, begin); });
    }
}

// Bytes `begin` to `end`, counted from the sample's first.
std::span<const uint8_t> Renderer::Worker::read(const ImageBatch& images, size_t sample, size_t begin, size_t end) {
    const uint64_t offset = images.offsets[sample];
    if (images.file != nullptr) {
        const std::span<uint8_t> bytes(grown(encoded, end - begin), end - begin);
        images.file->read(offset + begin, bytes);
        return bytes;
    }
    if (offset > images.storage.size() || end > images.storage.size() - offset)
        throw DecodeError("its bytes (offset " + std::to_string(offset) + ", size " + std::to_string(end) +
                          ") lie outside the file");
    return images.storage.subspan(offset + begin, end - begin);
}

Pixels Renderer::Worker::decode(const ImageBatch& images, size_t sample, const Region& wanted) {
    const bool is_raw = static_cast<ImageMode>(images.modes[sample]) == ImageMode::raw;
    size_t begin = 0, end = images.sizes[sample], corner = 0;
    const size_t stride = static_cast<size_t>(images.shapes[2 * sample + 1]) * 3;
    if (is_raw) {
        const int height = images.shapes[2 * sample];
        if (end < stride * static_cast<size_t>(height))
            throw DecodeError("raw image of " + std::to_string(height) + "x" + std::to_string(stride / 3) +
                              " has only " + std::to_string(end) + " bytes");
        corner = static_cast<size_t>(wanted.top) * stride + static_cast<size_t>(wanted.left) * 3;
        // Only what lies between the region's first and last pixel, unless the whole is to be verified.
        if (!images.is_compared(sample)) {
            begin = corner;
            end = corner + static_cast<size_t>(wanted.height - 1) * stride + static_cast<size_t>(wanted.width) * 3;
        }
    }
    const size_t behind = is_raw || images.behind == nullptr ? 0 : images.behind[sample];
    const std::span<const uint8_t> read_bytes = read(images, sample, begin, end + behind);
    const std::span<const uint8_t> bytes = read_bytes.first(end - begin);
    if (images.is_compared(sample) && crc32c(bytes) != images.checksums[sample])
        throw DecodeError("checksum mismatch: its bytes are not those that were written (run 'ffcv verify')");
    if (!is_raw)
        return decoder.decode(bytes, images.shapes[2 * sample], images.shapes[2 * sample + 1], wanted, decoded,
                              read_bytes.subspan(end - begin));
    return Pixels::interleaved(bytes.data() + (corner - begin), stride, wanted);  // cropped where they were read
}

void Renderer::Worker::place(const Pixels& source, const Region& box, bool flip, const Planar& out) {
    if (box.height > out.height || box.width > out.width) throw DecodeError("the image is larger than its padded view");
    const size_t width = static_cast<size_t>(box.width);
    const Planar part{grown(scratch, 3 * width * static_cast<size_t>(box.height)), box.height, box.width};
    kernels().copy_pixels(source.at(box.top, box.left), flip,
                          {part.data, part.height, part.width, PixelLayout::planes});
    std::memset(out.data, 0, 3 * out.plane_size());
    const size_t shift = flip ? static_cast<size_t>(out.width - box.width) : 0;
    for (int channel = 0; channel < 3; ++channel)
        for (size_t y = 0; y < static_cast<size_t>(box.height); ++y)
            std::memcpy(out.plane(channel) + y * static_cast<size_t>(out.width) + shift,
                        part.plane(channel) + y * width, width);
}

void Renderer::Worker::apply(OpCode code, const float* p, const Planar& image) {
    switch (code) {
        case OpCode::flip_horizontal:
            if (p[0] != 0.0f) kernels().flip_horizontal(image);
            return;
        case OpCode::gaussian_blur:
            if (p[0] > 0.0f) blur(p[0], static_cast<int>(p[1]), image);
            return;
        case OpCode::flip_vertical:
            if (p[0] != 0.0f) kernels().flip_vertical(image);
            return;
        case OpCode::affine:
            return affine(p, image);
        case OpCode::fill_box:
            return fill_box(p, image);
        case OpCode::equalize:
            if (p[0] != 0.0f) kernels().equalize(image);
            return;
        case OpCode::autocontrast:
            if (p[0] != 0.0f) kernels().autocontrast(image);
            return;
        case OpCode::sharpness:
            if (p[0] != 1.0f) kernels().sharpness(image, p[0], grown(scratch, 3 * image.plane_size()));
            return;
        case OpCode::noise:
            if (p[0] != 0.0f || p[1] != 0.0f)
                kernels().add_noise(image, p[0], p[1], static_cast<uint32_t>(p[2]), static_cast<uint32_t>(p[3]));
            return;
        default:  // PointChain's
            return;
    }
}

void Renderer::Worker::affine(const float* parameters, const Planar& image) {
    double matrix[6];
    for (int i = 0; i < 6; ++i) matrix[i] = static_cast<double>(parameters[4 + 2 * i]) + parameters[5 + 2 * i];
    const uint8_t fill[3] = {static_cast<uint8_t>(parameters[1]), static_cast<uint8_t>(parameters[2]),
                             static_cast<uint8_t>(parameters[3])};
    kernels().affine(image, matrix, parameters[0] != 0.0f, fill, grown(scratch, 3 * image.plane_size()));
}

void Renderer::Worker::fill_box(const float* parameters, const Planar& image) {
    const uint8_t colour[3] = {static_cast<uint8_t>(parameters[4]), static_cast<uint8_t>(parameters[5]),
                               static_cast<uint8_t>(parameters[6])};
    kernels().fill_box(image, static_cast<int>(parameters[0]), static_cast<int>(parameters[1]),
                       static_cast<int>(parameters[2]), static_cast<int>(parameters[3]), colour);
}

void Renderer::Worker::blur(float sigma, int kernel_size, const Planar& image) {
    const std::span<const int16_t> weights = gaussian.make(sigma, kernel_size);
    const int taps = static_cast<int>(weights.size());
    if (taps > 1)
        kernels().blur(image, weights.data(), taps, grown(scratch, blur_scratch(image.height, image.width, taps)));
}

Renderer::Renderer(size_t num_threads) : threads_(std::make_shared<Threads>(num_threads)) {}

Renderer::Renderer(std::shared_ptr<Threads> threads) : threads_(std::move(threads)) {}

Renderer::~Renderer() = default;

std::unique_ptr<Renderer> Renderer::another() const { return std::unique_ptr<Renderer>(new Renderer(threads_)); }

size_t Renderer::num_threads() const { return threads_->pool.size(); }

std::vector<SampleError> Renderer::render(const ImageBatch& images, std::span<const ViewProgram> views,
                                          const std::function<void()>& meanwhile) {
    std::vector<SampleError> errors;
    std::exception_ptr lost;
    std::mutex mutex;
    if (views.empty()) return errors;
    const std::function<bool()> is_cancelled = [this] { return cancelled_ || ThreadPool::are_cancelled(); };
    const auto render_one = [&](size_t worker, size_t sample) {
        if (is_cancelled()) return;
        const auto failed = [&](const char* message) {
            for (const ViewProgram& view : views) clear(view, sample);
            const std::lock_guard lock(mutex);
            try {
                errors.push_back({sample, message});
            } catch (...) {  // no memory for it: an exception that left this thread would end the process
                lost = std::current_exception();
            }
        };
        try {
            threads_->workers[worker]->render(images, views, sample, is_cancelled);
        } catch (const std::bad_alloc&) {  // says nothing about the sample
            const std::lock_guard lock(mutex);
            lost = std::current_exception();
        } catch (const std::exception& error) {
            failed(error.what());
        } catch (...) {
            failed("an exception of an unknown type");
        }
    };
    threads_->pool.run(images.size, render_one, meanwhile);
    if (cancelled_) throw std::runtime_error("rendering was cancelled: nobody waits for it");
    if (lost) std::rethrow_exception(lost);
    std::ranges::sort(errors, {}, &SampleError::position);
    return errors;
}

}  // namespace ffcv
