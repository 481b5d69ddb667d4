#include "storage.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace ffcv {

StorageFile::StorageFile(const std::string& path) : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (descriptor_ < 0) throw ReadError(std::string("cannot be opened: ") + std::strerror(errno));
}

StorageFile::~StorageFile() { ::close(descriptor_); }

void StorageFile::read(uint64_t offset, std::span<uint8_t> out) const {
    size_t done = 0;
    while (done < out.size()) {
        const ssize_t count =
            ::pread(descriptor_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
        if (count < 0 && errno == EINTR) continue;
        if (count > 0) {
            done += static_cast<size_t>(count);
            continue;
        }
        const int error = errno;
        const std::string where =
            std::to_string(out.size()) + " bytes at offset " + std::to_string(offset) + " of the file";
        if (count < 0) throw ReadError("cannot read " + where + ": " + std::strerror(error));
        throw ReadError("only " + std::to_string(done) + " of " + where + " are there: truncated");
    }
}

void StorageFile::read_rows(uint64_t table, size_t row_bytes, std::span<const int64_t> indices, uint8_t* out) const {
    for (size_t first = 0; first < indices.size();) {
        size_t end = first + 1;
        while (end < indices.size() && indices[end] == indices[end - 1] + 1) ++end;
        read(table + static_cast<uint64_t>(indices[first]) * row_bytes,
             {out + first * row_bytes, (end - first) * row_bytes});
        first = end;
    }
}

}  // namespace ffcv
