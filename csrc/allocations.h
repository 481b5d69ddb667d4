// A file's allocation table, read where it is mapped: checked in one pass, searched without copies.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ffcv {

struct Allocation {
    uint64_t sample_id, ptr, size;
};
static_assert(sizeof(Allocation) == 24);

class AllocationTable {
public:
    // `rows` are 24 bytes each, of any alignment, and outlive this object.
    explicit AllocationTable(std::span<const uint8_t> rows) : rows_(rows), size_(rows.size() / sizeof(Allocation)) {}

    size_t size() const { return size_; }
    Allocation operator[](size_t row) const {
        Allocation allocation;
        std::memcpy(&allocation, rows_.data() + row * sizeof(Allocation), sizeof(Allocation));
        return allocation;
    }

    // Where allocations may lie, and to which samples they may belong.
    struct Limits {
        uint64_t first, end;  // the pages: bytes first to end
        uint64_t page_size;   // a power of two
        uint64_t num_samples, first_section;
    };
    // What is wrong with the first bad row, or with the table; nothing if all is well. Prepares `find`.
    std::optional<std::string> check(const Limits& limits);

    static constexpr int64_t missing = -1, foreign = -2;
    // For each pointer the row that begins there (of several, one that is not empty), else `missing`, or `foreign`
    // where it belongs to another than `owners[i]` (of null: to any).
    void find(std::span<const uint64_t> pointers, const uint64_t* owners, int64_t* rows) const;

private:
    std::optional<std::string> check_overlap() const;
    size_t at(size_t position) const { return order_.empty() ? position : order_[position]; }

    std::span<const uint8_t> rows_;
    size_t size_;
    std::vector<uint64_t> order_;  // rows by (ptr, size); empty where the pointers rise anyway
};

}  // namespace ffcv
