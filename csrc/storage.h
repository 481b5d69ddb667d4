// A file that is read with pread: unlike a mapping it cannot kill the process when the file shrinks, and unlike a
// mapping it says what went wrong.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>

namespace ffcv {

class ReadError : public std::runtime_error {
    using std::runtime_error::runtime_error;
};

class StorageFile {
public:
    // Throws ReadError without the path, which need not be text.
    explicit StorageFile(const std::string& path);
    ~StorageFile();
    StorageFile(const StorageFile&) = delete;
    StorageFile& operator=(const StorageFile&) = delete;

    int descriptor() const { return descriptor_; }

    // Fills `out` with the bytes at `offset`, or throws ReadError, which names the offset.
    void read(uint64_t offset, std::span<uint8_t> out) const;

    // Row i of `out` (rows of `row_bytes`) becomes row `indices[i]` of the table that begins at `table`; neighbours are
    // read together.
    void read_rows(uint64_t table, size_t row_bytes, std::span<const int64_t> indices, uint8_t* out) const;

private:
    int descriptor_;
};

}  // namespace ffcv
