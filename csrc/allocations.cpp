#include "allocations.h"

#include <algorithm>
#include <numeric>
#include <tuple>

namespace ffcv {

std::optional<std::string> AllocationTable::check(const Limits& limits) {
    constexpr size_t none = SIZE_MAX;
    size_t outside = none, beyond = none, crossing = none;
    bool all_empty = true, rising = true;
    uint64_t previous = 0;
    for (size_t row = 0; row < size_; ++row) {
        const Allocation a = (*this)[row];
        const bool is_section = a.sample_id >= limits.first_section;
        if (a.ptr > limits.end) outside = std::min(outside, row);
        if (row > 0 && a.ptr <= previous) rising = false;
        previous = a.ptr;
        if (!is_section && a.sample_id >= limits.num_samples) beyond = std::min(beyond, row);
        if (a.size == 0) continue;  // the original gives these pointers of no meaning
        all_empty = false;
        if (a.ptr < limits.first || a.ptr > limits.end || a.size > limits.end - a.ptr)
            outside = std::min(outside, row);
        else if (!is_section && a.ptr / limits.page_size != (a.ptr + a.size - 1) / limits.page_size)
            crossing = std::min(crossing, row);
    }
    const auto refuse = [](size_t row, const std::string& problem) {
        return "allocation " + std::to_string(row) + " " + problem + "; the file is damaged";
    };
    if (outside != none)
        return refuse(outside, "lies outside the pages (bytes " + std::to_string(limits.first) + " to " +
                                   std::to_string(limits.end) + ")");
    if (limits.end % limits.page_size != 0 && !all_empty)
        return "truncated or damaged: its pages end at byte " + std::to_string(limits.end) +
               ", in the middle of a page";
    if (beyond != none)
        return refuse(beyond, "is of a sample beyond the " + std::to_string(limits.num_samples) + " declared");
    if (crossing != none) return refuse(crossing, "crosses from one page into the next");
    if (!rising) {
        order_.resize(size_);
        std::iota(order_.begin(), order_.end(), uint64_t{0});
        std::ranges::sort(order_, {}, [this](uint64_t row) {
            const Allocation a = (*this)[row];
            return std::tuple(a.ptr, a.size, row);
        });
    }
    return check_overlap();
}

std::optional<std::string> AllocationTable::check_overlap() const {
    uint64_t end = 0;
    for (size_t position = 0; position < size_; ++position) {
        const Allocation a = (*this)[at(position)];
        if (a.size == 0) continue;
        if (a.ptr < end) return "two allocations overlap at byte " + std::to_string(a.ptr) + "; the file is damaged";
        end = a.ptr + a.size;
    }
    return std::nullopt;
}

void AllocationTable::find(std::span<const uint64_t> pointers, const uint64_t* owners, int64_t* rows) const {
    size_t guess = 0;  // columns mostly rise as the table does: look just behind the last hit first
    for (size_t i = 0; i < pointers.size(); ++i) {
        const uint64_t pointer = pointers[i];
        size_t position = size_;
        for (size_t k = guess; order_.empty() && k < std::min(guess + 4, size_); ++k)
            if ((*this)[k].ptr == pointer) position = k;
        if (position == size_) {
            size_t low = 0, high = size_;  // the last position whose pointer is at most this one
            while (low < high) {
                const size_t middle = low + (high - low) / 2;
                if ((*this)[at(middle)].ptr <= pointer)
                    low = middle + 1;
                else
                    high = middle;
            }
            if (low == 0 || (*this)[at(low - 1)].ptr != pointer) {
                rows[i] = missing;
                continue;
            }
            position = low - 1;
        }
        const size_t row = at(position);
        rows[i] = owners != nullptr && (*this)[row].sample_id != owners[i] ? foreign : static_cast<int64_t>(row);
        guess = position + 1;
    }
}

}  // namespace ffcv
