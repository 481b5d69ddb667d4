// The Python face of what the loader needs: orders without memory, files that are read with pread.
#include "bindings_loader.h"

#include <nanobind/stl/string.h>

#include "bindings_arrays.h"
#include "pool.h"
#include "random.h"
#include "storage.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace ffcv {
namespace {

using Indices = Array<const int64_t, nb::shape<-1>>;

auto permute(uint64_t seed, uint32_t stream, uint32_t epoch, uint64_t size, Indices positions) {
    const size_t count = positions.size();
    for (size_t i = 0; i < count; ++i)
        if (positions(i) < 0 || static_cast<uint64_t>(positions(i)) >= size)
            throw nb::index_error("a position lies outside the order");
    auto [result, owner] = allocate<int64_t>(count);
    {
        nb::gil_scoped_release release;
        const Permutation permutation(seed, stream, epoch, size);
        for (size_t i = 0; i < count; ++i)
            result[i] = static_cast<int64_t>(permutation(static_cast<uint64_t>(positions(i))));
    }
    return nb::ndarray<nb::numpy, int64_t, nb::ndim<1>>(result, {count}, owner);
}

// A path of Python's need not be UTF-8, which nanobind's strings are.
void open_file(StorageFile* self, nb::object path) {
    PyObject* bytes = nullptr;
    if (!PyUnicode_FSConverter(path.ptr(), &bytes)) throw nb::python_error();
    const nb::object owner = nb::steal(bytes);
    new (self) StorageFile(PyBytes_AsString(bytes));
}

void read(const StorageFile& file, uint64_t offset, WritableBytes out) {
    nb::gil_scoped_release release;
    file.read(offset, {out.data(), out.size()});
}

void read_rows(const StorageFile& file, uint64_t table, size_t row_bytes, Indices indices, WritableBytes out) {
    if (out.size() != indices.size() * row_bytes) throw nb::value_error("out must have one row an index");
    for (size_t i = 0; i < indices.size(); ++i)
        if (indices(i) < 0) throw nb::index_error("a row's index is negative");
    nb::gil_scoped_release release;
    file.read_rows(table, row_bytes, {indices.data(), indices.size()}, out.data());
}

}  // namespace

void bind_loader(nb::module_& m) {
    m.def(
        "expect_leaks", [] { nb::set_leak_warnings(false); },
        "No report of objects that are left at the end of this process: for a forked one, where the threads that hold "
        "them have stayed behind.");
    m.def("cancel_rendering", &ThreadPool::cancel_all,
          "At the end of a process: renderers begin no further view, and raise RuntimeError, now and from now on.");
    nb::exception<ReadError>(m, "ReadError", PyExc_OSError);
    m.def("permute", &permute, "seed"_a, "stream"_a, "epoch"_a, "size"_a, "positions"_a,
          "int64 [B]: where a keyed permutation of 0..size-1 takes `positions` (int64 [B]); O(1) memory.");
    nb::class_<StorageFile>(m, "StorageFile", "A file that is read with pread; errors name the offset.")
        .def("__init__", &open_file, "path"_a, "A path as `open` takes it; errors do not name it.")
        .def("fileno", &StorageFile::descriptor)
        .def("read", &read, "offset"_a, "out"_a, "Fills `out` (uint8) with the bytes at `offset`.")
        .def("read_rows", &read_rows, "table"_a, "row_bytes"_a, "indices"_a, "out"_a,
             "Fills `out` (uint8) with rows `indices` of the table that begins at byte `table`.");
}

}  // namespace ffcv
