// The Python face of what files need: checksums, allocation tables, JPEGs that are stored as they are.
#include "bindings_file.h"

#include <fcntl.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "allocations.h"
#include "bindings_arrays.h"
#include "checksum.h"
#include "jpeg.h"
#include "restart.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace ffcv {
namespace {

using Pointers = Array<const uint64_t, nb::shape<-1>>;

// A numpy array that takes over a vector's memory.
template <class T>
auto array_of(std::vector<T>&& values) {
    auto* const kept = new std::vector<T>(std::move(values));
    nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
    return nb::ndarray<nb::numpy, T, nb::ndim<1>>(kept->data(), {kept->size()}, owner);
}

uint32_t checksum(Bytes data, uint32_t crc, const std::optional<std::string>& way) {
    auto sum = &crc32c;
    if (way) {
        const auto ways = crc32c_ways();
        const auto named = std::ranges::find(ways, *way, &Crc32cWay::name);
        if (named == ways.end()) throw nb::value_error("this machine has no such way; see crc32c_ways()");
        sum = named->sum;
    }
    nb::gil_scoped_release release;
    return sum(span_of(data), crc);
}

std::vector<std::string> names_of_ways() {
    std::vector<std::string> names;
    for (const Crc32cWay& way : crc32c_ways()) names.emplace_back(way.name);
    return names;
}

// An allocation table together with the array that it reads.
class Table {
public:
    explicit Table(Bytes rows) : rows_(rows), table_(span_of(rows)) {}

    size_t size() const { return table_.size(); }

    std::optional<std::string> check(uint64_t first, uint64_t end, uint64_t page_size, uint64_t num_samples,
                                     uint64_t first_section) {
        nb::gil_scoped_release release;
        return table_.check({first, end, page_size, num_samples, first_section});
    }

    auto find(Pointers pointers, std::optional<Pointers> owners) const {
        if (owners && owners->size() != pointers.size()) throw nb::value_error("owners: one for each pointer");
        std::vector<int64_t> rows(pointers.size());
        {
            nb::gil_scoped_release release;
            table_.find({pointers.data(), pointers.size()}, owners ? owners->data() : nullptr, rows.data());
        }
        return array_of(std::move(rows));
    }

    auto sizes(Array<const int64_t, nb::shape<-1>> rows) const {
        std::vector<uint64_t> result(rows.size());
        for (size_t i = 0; i < rows.size(); ++i) {
            if (rows(i) < 0 || static_cast<size_t>(rows(i)) >= size()) throw nb::index_error("no such row");
            result[i] = table_[static_cast<size_t>(rows(i))].size;
        }
        return array_of(std::move(result));
    }

private:
    Bytes rows_;
    AllocationTable table_;
};

JpegHeader checked(Bytes data, std::vector<uint8_t>* points) {
    nb::gil_scoped_release release;
    // Starting a decoder costs a tenth of checking a photograph.
    thread_local JpegDecoder decoder;
    thread_local std::vector<uint8_t> buffer;
    return decoder.check(span_of(data), buffer, points);
}

std::tuple<int, int, int> check_jpeg(Bytes data) {
    const JpegHeader header = checked(data, nullptr);
    return {header.height, header.width, header.components};
}

auto index_jpeg(Bytes data) {
    std::vector<uint8_t> points;
    const JpegHeader header = checked(data, &points);
    return std::tuple(header.height, header.width, header.components, nb::bytes(points.data(), points.size()));
}

// Without it the system may keep gigabytes in memory, for which the last fsync then waits.
void start_writeback([[maybe_unused]] int descriptor, [[maybe_unused]] int64_t offset, [[maybe_unused]] int64_t size) {
#ifdef __linux__
    nb::gil_scoped_release release;
    sync_file_range(descriptor, offset, size, SYNC_FILE_RANGE_WRITE);  // an aid: errors show in fsync
#endif
}

auto restart_markers(Bytes data) {
    std::vector<uint8_t> result;
    {
        nb::gil_scoped_release release;
        result = add_restart_markers(span_of(data));
    }
    return array_of(std::move(result));
}

}  // namespace

void bind_file(nb::module_& m) {
    m.def(
        "crc32c", &checksum, "data"_a, "crc"_a = 0, "way"_a.none() = nb::none(),
        "The CRC32C of `data`, going on from that of what comes before it; `way` names one to compute it (for tests).");
    m.def("crc32c_ways", &names_of_ways, "How this machine can compute a CRC32C, the fastest first.");
    m.def("check_jpeg", &check_jpeg, "data"_a,
          "(height, width, components) of a JPEG that decodes as a whole; raises DecodeError otherwise. Faster than "
          "decoding.");
    m.def("index_jpeg", &index_jpeg, "data"_a,
          "The same check: (height, width, components, entry points), those packed as docs/format.md says, empty "
          "where there can be none.");
    m.def("add_restart_markers", &restart_markers, "data"_a,
          "uint8 [size]: the same image, losslessly, with a restart marker after every row of MCUs.");
    m.def(
        "restart_index", [](Bytes data) { return array_of(restart_index(span_of(data))); }, "data"_a,
        "uint32 [rows of MCUs]: where each begins in the file; empty unless restart markers part just the rows.");
    m.def("start_writeback", &start_writeback, "descriptor"_a, "offset"_a, "size"_a,
          "Lets the disk begin with these bytes of a file; waits for nothing.");
    nb::class_<Table>(m, "AllocationTable", "A file's allocation table, read where it lies.")
        .def(nb::init<Bytes>(), "rows"_a)
        .def("__len__", &Table::size)
        .def("check", &Table::check, "first"_a, "end"_a, "page_size"_a, "num_samples"_a, "first_section"_a,
             "What is wrong with the table, or None. To be called before `find`.")
        .def("find", &Table::find, "pointers"_a, "owners"_a.none() = nb::none(),
             "int64 [B]: the row that begins at each pointer; -1 where none does, -2 where it is not its owner's.")
        .def("sizes", &Table::sizes, "rows"_a, "uint64 [B]: the rows' sizes in bytes.");
}

}  // namespace ffcv
