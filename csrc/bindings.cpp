// The Python face of the core: typed arrays in, errors out, the GIL released while pixels move.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <exception>
#include <limits>
#include <optional>
#include <tuple>
#include <utility>

#include "batch.h"
#include "bindings_arrays.h"
#include "bindings_file.h"
#include "bindings_loader.h"
#include "jpeg.h"
#include "jpeg_encoder.h"
#include "kernels/kernels.h"
#include "random.h"
#include "whole_image.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace ffcv {
namespace {

auto draw_uniforms(uint64_t seed, uint32_t stream, uint32_t epoch, Array<const int64_t, nb::shape<-1>> samples,
                   size_t count) {
    if (count > 4 * 65536) throw nb::value_error("at most 262144 draws an operation and sample");
    const size_t rows = samples.shape(0);
    auto [data, owner] = allocate<double>(rows * count);
    for (size_t row = 0; row < rows; ++row)
        uniforms(seed, stream, epoch, static_cast<uint64_t>(samples(row)), data + row * count, count);
    return nb::ndarray<nb::numpy, double, nb::ndim<2>>(data, {rows, count}, owner);
}

std::tuple<int, int, int> jpeg_info(Bytes data) {
    JpegDecoder decoder;
    const JpegHeader header = decoder.read_header(span_of(data));
    return {header.height, header.width, header.components};
}

ImageMaker& image_maker() {
    thread_local ImageMaker maker;  // building its tables takes long
    return maker;
}

// A numpy array that takes over the image's memory.
auto array_of(Image&& image) {
    const size_t height = static_cast<size_t>(image.height), width = static_cast<size_t>(image.width);
    nb::capsule owner(image.pixels.get(), [](void* p) noexcept { delete[] static_cast<uint8_t*>(p); });
    return nb::ndarray<nb::numpy, uint8_t, nb::ndim<3>>(image.pixels.release(), {height, width, 3}, owner);
}

int checked_side(std::optional<int> max_side) {
    if (max_side && *max_side < 1) throw nb::value_error("max_side must be at least 1 pixel");
    return max_side.value_or(ImageMaker::any_side);
}

auto decode_jpeg(Bytes data, JpegDecoder::Engine engine, std::optional<int> max_side) {
    const int most = checked_side(max_side);
    Image image;
    {
        nb::gil_scoped_release release;
        image = image_maker().decode(span_of(data), most, engine);
    }
    return array_of(std::move(image));
}

auto shrink(Array<const uint8_t, nb::shape<-1, -1, 3>> pixels, int max_side) {
    const int most = checked_side(max_side);
    const Region whole{0, 0, static_cast<int>(pixels.shape(0)), static_cast<int>(pixels.shape(1))};
    if (whole.height < 1 || whole.width < 1) throw nb::value_error("an image has at least one pixel");
    Image image;
    {
        nb::gil_scoped_release release;
        image = image_maker().shrink(Pixels::interleaved(pixels.data(), pixels.shape(1) * 3, whole), most);
    }
    return array_of(std::move(image));
}

nb::bytes encode_jpeg(nb::ndarray<const uint8_t, nb::c_contig, nb::device::cpu> pixels, int quality,
                      bool halve_chroma) {
    const bool is_grey = pixels.ndim() == 2;
    if (!is_grey && (pixels.ndim() != 3 || pixels.shape(2) != 3))
        throw nb::value_error("pixels must be uint8 [H, W, 3], or grey [H, W]");
    if (quality < 1 || quality > 100) throw nb::value_error("quality lies between 1 and 100");
    constexpr size_t most = std::numeric_limits<int>::max();
    if (pixels.shape(0) > most || pixels.shape(1) > most) throw nb::value_error("no JPEG is so large");
    thread_local JpegEncoder encoder;
    std::span<const uint8_t> file;
    {
        nb::gil_scoped_release release;
        file = encoder.encode(
            {pixels.data(), static_cast<int>(pixels.shape(0)), static_cast<int>(pixels.shape(1)), is_grey ? 1 : 3},
            quality, halve_chroma);
    }
    return nb::bytes(file.data(), file.size());
}

// A ViewProgram together with the arrays that it points into.
class View {
public:
    using Parameters = Array<const float, nb::shape<-1, -1>>;

    View(Array<const int32_t, nb::shape<-1, 4>> boxes, nb::object flips, int height, int width,
         const std::vector<std::pair<OpCode, Parameters>>& ops, nb::ndarray<nb::c_contig, nb::device::cpu> out,
         bool channels_first, std::array<float, 3> scale, std::array<float, 3> bias, bool pad,
         Interpolation interpolation)
        : batch_(boxes.shape(0)), boxes_(boxes), out_(out) {
        if (height < 1 || width < 1) throw nb::value_error("a view's height and width must be positive");
        program_ = {.boxes = boxes.data(),
                    .flips = nullptr,
                    .height = height,
                    .width = width,
                    .pad = pad,
                    .interpolation = interpolation,
                    .ops = {},
                    .output = {}};
        if (!flips.is_none()) {
            flips_ = nb::cast<Array<const uint8_t, nb::shape<-1>>>(flips);
            if (flips_.shape(0) != batch_) throw nb::value_error("flips must have one entry a sample");
            program_.flips = flips_.data();
        }
        for (const auto& [code, parameters] : ops) add(code, parameters);
        const size_t h = static_cast<size_t>(height), w = static_cast<size_t>(width);
        const std::array<size_t, 4> expected =
            channels_first ? std::array{batch_, size_t{3}, h, w} : std::array{batch_, h, w, size_t{3}};
        bool fits = out.ndim() == 4;
        for (size_t axis = 0; fits && axis < 4; ++axis) fits = out.shape(axis) == expected[axis];
        if (!fits) throw nb::value_error("out does not have the view's shape");
        program_.output = {static_cast<uint8_t*>(out.data()),
                           dtype_of(out),
                           channels_first,
                           {scale[0], scale[1], scale[2]},
                           {bias[0], bias[1], bias[2]}};
    }

    const ViewProgram& program() const { return program_; }
    size_t batch() const { return batch_; }

private:
    static DType dtype_of(const nb::ndarray<nb::c_contig, nb::device::cpu>& out) {
        if (out.dtype() == nb::dtype<uint8_t>()) return DType::uint8;
        if (out.dtype() == nb::dtype<float>()) return DType::float32;
        const nb::dlpack::dtype half{static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
        if (out.dtype() == half) return DType::float16;
        if (out.dtype() == nb::dtype<int16_t>()) return DType::bfloat16;  // its bits: numpy has no such type
        throw nb::value_error("out must be uint8, float16, float32, or int16 for the bits of bfloat16");
    }

    void add(OpCode code, const Parameters& parameters) {
        if (parameters.shape(0) != batch_ || parameters.shape(1) != num_columns[static_cast<size_t>(code)])
            throw nb::value_error("an operation's parameters have the wrong shape");
        program_.ops.push_back({code, parameters.data(), parameters.shape(1)});
        parameters_.push_back(parameters);
    }

    size_t batch_;
    Array<const int32_t, nb::shape<-1, 4>> boxes_;
    Array<const uint8_t, nb::shape<-1>> flips_;
    std::vector<Parameters> parameters_;
    nb::ndarray<nb::c_contig, nb::device::cpu> out_;
    ViewProgram program_;
};

std::vector<std::pair<size_t, std::string>> render(
    Renderer& renderer, Bytes storage, Array<const uint64_t, nb::shape<-1>> offsets,
    Array<const uint64_t, nb::shape<-1>> sizes, Array<const uint8_t, nb::shape<-1>> modes,
    Array<const int32_t, nb::shape<-1, 2>> shapes, const std::vector<View*>& views,
    std::optional<Array<const uint32_t, nb::shape<-1>>> checksums, const StorageFile* file,
    std::optional<Array<const uint64_t, nb::shape<-1>>> behind,
    std::optional<Array<const bool, nb::shape<-1>>> compared, std::optional<nb::callable> meanwhile) {
    const size_t batch = offsets.shape(0);
    const auto is_of_batch = [&](const auto& column) { return !column || column->shape(0) == batch; };
    if (!is_of_batch(checksums) || !is_of_batch(compared) || !is_of_batch(behind))
        throw nb::value_error("checksums, compared and behind must have one entry a sample");
    if (sizes.shape(0) != batch || modes.shape(0) != batch || shapes.shape(0) != batch)
        throw nb::value_error("offsets, sizes, modes and shapes must have one row a sample");
    std::vector<ViewProgram> programs;
    for (const View* view : views) {
        if (view == nullptr || view->batch() != batch) throw nb::value_error("a view is for another batch size");
        programs.push_back(view->program());
    }
    const ImageBatch images{span_of(storage),
                            offsets.data(),
                            sizes.data(),
                            modes.data(),
                            shapes.data(),
                            batch,
                            checksums ? checksums->data() : nullptr,
                            behind ? behind->data() : nullptr,
                            compared ? reinterpret_cast<const uint8_t*>(compared->data()) : nullptr,
                            file};
    std::vector<SampleError> errors;
    std::exception_ptr raised;
    const auto call_meanwhile = [&] {
        if (!meanwhile) return;
        const nb::gil_scoped_acquire acquire;
        try {
            (*meanwhile)();
        } catch (const std::exception&) {  // not '...', by which threads end that outlive the interpreter
            raised = std::current_exception();
        }
    };
    {
        nb::gil_scoped_release release;
        errors = renderer.render(images, programs, call_meanwhile);
    }
    if (raised) std::rethrow_exception(raised);
    std::vector<std::pair<size_t, std::string>> result;
    for (SampleError& error : errors) result.emplace_back(error.position, std::move(error.message));
    return result;
}

std::vector<uint32_t> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
    const Words words = philox4x32(counter, key);
    return {words.begin(), words.end()};
}

}  // namespace
}  // namespace ffcv

NB_MODULE(_core, m) {
    using namespace ffcv;
    m.doc() = "The native core: JPEG decoding, views, random streams.";
    nb::exception<DecodeError>(m, "DecodeError", PyExc_ValueError);
    bind_file(m);
    bind_loader(m);

    m.def("philox4x32", &philox, "counter"_a, "key"_a, "One Philox4x32-10 block (for tests).");
    m.def("uniforms", &draw_uniforms, "seed"_a, "stream"_a, "epoch"_a, "samples"_a, "count"_a,
          "float64 [B, count] in [0, 1): row i is a function of (seed, stream, epoch, samples[i]) alone.");
    m.def("jpeg_info", &jpeg_info, "data"_a, "(height, width, components) of a JPEG's header; raises DecodeError.");
    nb::enum_<JpegDecoder::Engine>(m, "JpegEngine", "Who decodes a JPEG; the pixels are the same (for tests).")
        .value("any", JpegDecoder::Engine::any)
        .value("ours", JpegDecoder::Engine::ours)
        .value("libjpeg", JpegDecoder::Engine::libjpeg);
    m.def("decode_jpeg", &decode_jpeg, "data"_a, "engine"_a = JpegDecoder::Engine::any,
          "max_side"_a.none() = nb::none(),
          "uint8 [H, W, 3] of a whole JPEG, as by `shrink` where `max_side` is given; raises DecodeError, also where "
          "data "
          "are missing or damaged, or where `engine` does not take it.");
    m.def("shrink", &shrink, "pixels"_a, "max_side"_a,
          "uint8 [height, width, 3]: `pixels`, uint8 [H, W, 3], with at most `max_side` pixels in the longer side: a "
          "larger image is averaged by area.");
    m.def("encode_jpeg", &encode_jpeg, "pixels"_a, "quality"_a, "halve_chroma"_a = true,
          "A JPEG of uint8 [H, W, 3], or grey [H, W], with Pillow's bytes; `quality` 1 to 100; chroma 4:2:0 or 4:4:4.");
    m.def("libjpeg_turbo_version", &libjpeg_turbo_version,
          "The release of libjpeg-turbo that the core was compiled with.");
    m.def("isa", [] { return kernels().isa; }, "The instruction set of the kernels in use.");
    m.def(
        "select_isa", [](const std::string& isa) { return select_kernels(isa.c_str()); }, "isa"_a,
        "Uses the kernels built for `isa`; False if this machine or build has none (for tests).");

    nb::enum_<OpCode>(m, "OpCode", "What the core can do to a view; csrc/program.h gives the parameters.")
#define FFCV_VALUE(name, columns) .value(#name, OpCode::name)
        FFCV_OPCODES(FFCV_VALUE)
#undef FFCV_VALUE
            ;
    nb::enum_<Interpolation>(m, "Interpolation", "How an image is resized.")
        .value("bilinear", Interpolation::bilinear)
        .value("bicubic", Interpolation::bicubic)
        .value("nearest", Interpolation::nearest)
        .value("area", Interpolation::area);
    nb::class_<View>(m, "View", "One view of every image of a batch: what to do, and the array to do it into.")
        .def(nb::init<Array<const int32_t, nb::shape<-1, 4>>, nb::object, int, int,
                      const std::vector<std::pair<OpCode, View::Parameters>>&,
                      nb::ndarray<nb::c_contig, nb::device::cpu>, bool, std::array<float, 3>, std::array<float, 3>,
                      bool, Interpolation>(),
             "boxes"_a, "flips"_a.none(), "height"_a, "width"_a, "ops"_a, "out"_a, "channels_first"_a, "scale"_a,
             "bias"_a, "pad"_a = false, "interpolation"_a = Interpolation::bilinear);
    nb::class_<Renderer>(m, "Renderer", "A thread pool that renders batches.")
        .def(nb::init<size_t>(), "num_threads"_a)
        .def_prop_ro("num_threads", &Renderer::num_threads)
        .def("another", &Renderer::another, "Another one on the same threads, which can be cancelled by itself.")
        .def("cancel", &Renderer::cancel,
             "From any thread: `render` begins no further view, now and from now on, and raises RuntimeError.")
        .def(
            "render", &render, "storage"_a, "offsets"_a, "sizes"_a, "modes"_a, "shapes"_a, "views"_a,
            "checksums"_a.none() = nb::none(), "file"_a.none() = nb::none(), "behind"_a.none() = nb::none(),
            "compared"_a.none() = nb::none(), "meanwhile"_a.none() = nb::none(),
            "Renders `views`; the bytes come from `storage`, or from `file`, and so many `behind` each JPEG, which may "
            "be its entry points. They are compared with `checksums`, where `compared` (bool [B]) is True. Returns "
            "(position, message) of each sample that failed, whose outputs are zeros. `meanwhile` is called in this "
            "thread while the others work.");
}
