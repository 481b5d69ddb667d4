#include "scan.h"

#include <algorithm>
#include <cstring>

#include "grown.h"
#include "kernels/kernels.h"

namespace ffcv {

namespace {

// Copies entropy-coded data without stuffed zeros, up to a marker or the end. Returns where reading stopped (at the
// marker) and moves `out` on.
const uint8_t* unstuff(const uint8_t* at, const uint8_t* end, uint8_t*& out) {
    while (at < end) {
        const void* const found = std::memchr(at, 0xff, static_cast<size_t>(end - at));
        const uint8_t* const special = found == nullptr ? end : static_cast<const uint8_t*>(found);
        const size_t size = static_cast<size_t>(special - at);
        std::memcpy(out, at, size);
        out += size;
        if (end - special < 2 || special[1] != 0) return special;
        *out++ = 0xff;
        at = special + 2;
    }
    return at;
}

// Where what is copied without stuffed zeros and markers was in the file; asked for rising places.
class FilePosition {
public:
    explicit FilePosition(const uint8_t* data) : data_(data) {}

    // In bits, of the next bit of `bits`, which lies behind so many restart markers.
    uint32_t of(const EntropyBits& bits, long long markers) {
        const size_t position = static_cast<size_t>(bits.at - data_) * 8 - static_cast<size_t>(bits.count);
        stuffed_ += static_cast<size_t>(std::count(data_ + counted_, data_ + position / 8, uint8_t{0xff}));
        counted_ = position / 8;
        return static_cast<uint32_t>(position + 8 * (stuffed_ + 2 * static_cast<size_t>(markers)));
    }

private:
    const uint8_t* data_;
    size_t counted_ = 0, stuffed_ = 0;
};

}  // namespace

bool Scan::open(std::span<const uint8_t> bytes, const Layout& layout, const EntryPoints* points) {
    bytes_ = bytes;
    layout_ = layout;
    const EntryGrid* const grid = points == nullptr ? nullptr : &points->grid();
    const bool is_ours = grid != nullptr && grid->mcus_across == layout.mcus_across &&
                         grid->mcus_down == layout.mcus_down && grid->num_components == layout.num_components;
    points_ = is_ours && can_have_points() ? points : nullptr;
    return points_ != nullptr || copy_all();
}

bool Scan::can_have_points() const {
    return layout_.restart_interval % layout_.mcus_across == 0 && bytes_.size() < (size_t{1} << 29);
}

bool Scan::decode(Mcu& mcu, int row, Range columns) {
    if (points_ != nullptr) return decode_from_point(mcu, row, columns);
    if (!skip_to(mcu, static_cast<long long>(row) * layout_.mcus_across + columns.begin)) return false;
    return advance(columns.size(), [&](int part) { return kernels().decode_mcus(bits_, mcu, part); });
}

bool Scan::decode_from_point(Mcu& mcu, int row, Range columns) {
    const EntryGrid& grid = points_->grid();
    const size_t of_row = static_cast<size_t>(row) * static_cast<size_t>(grid.per_row());
    const size_t first = of_row + static_cast<size_t>(columns.begin / grid.spacing);
    const int end_column = std::min(grid.mcus_across, (columns.end + grid.spacing - 1) / grid.spacing * grid.spacing);
    const size_t last = of_row + static_cast<size_t>((end_column + grid.spacing - 1) / grid.spacing);
    const EntryPoint from = (*points_)[first];
    const size_t end = last < grid.size() ? ((*points_)[last].position + size_t{7}) / 8 : bytes_.size();
    if (!copy_part(from.position / 8, end)) return false;
    const int used = static_cast<int>(from.position % 8);
    bits_ = {data_.data() + 1, data_.data() + segment_ends_[0], uint64_t{data_[0]} << (56 + used), 8 - used};
    std::copy_n(from.predictions.begin(), predictions_.size(), predictions_.begin());
    if (!kernels().skip_mcus(bits_, mcu, columns.begin % grid.spacing)) return false;
    if (!kernels().decode_mcus(bits_, mcu, columns.size())) return false;
    return columns.end < end_column || ends_well();
}

// Bytes `begin` to `end` of the scan, or to the marker before.
bool Scan::copy_part(size_t begin, size_t end) {
    if (begin >= end || end > bytes_.size()) return false;
    if (bytes_[end - 1] == 0xff && end < bytes_.size()) ++end;  // its stuffed zero
    uint8_t* out = grown(data_, end - begin + EntropyBits::padding);
    unstuff(bytes_.data() + begin, bytes_.data() + end, out);
    std::memset(out, 0, EntropyBits::padding);
    segment_ends_.assign(1, static_cast<size_t>(out - data_.data()));
    segment_ = 0;
    return segment_ends_[0] > 0;
}

// The whole scan; notes where restart markers were. False if they are not in turn.
bool Scan::copy_all() {
    uint8_t* out = grown(data_, bytes_.size() + EntropyBits::padding);
    segment_ends_.clear();
    ends_with_marker_ = false;
    const uint8_t* at = bytes_.data();
    const uint8_t* const end = at + bytes_.size();
    while (true) {
        at = unstuff(at, end, out);
        if (end - at < 2) break;
        const uint8_t code = at[1];
        if (code < 0xd0 || code > 0xd7) {
            ends_with_marker_ = code == 0xd9;
            break;
        }
        if (code - 0xd0u != segment_ends_.size() % 8) return false;
        segment_ends_.push_back(static_cast<size_t>(out - data_.data()));
        at += 2;
    }
    segment_ends_.push_back(static_cast<size_t>(out - data_.data()));
    std::memset(out, 0, EntropyBits::padding);
    const long long segments = (layout_.size() + layout_.restart_interval - 1) / layout_.restart_interval;
    if (static_cast<long long>(segment_ends_.size()) != segments) return false;
    enter(0);
    return true;
}

void Scan::enter(long long segment) {
    const size_t i = static_cast<size_t>(segment);
    bits_ = {data_.data() + (i == 0 ? 0 : segment_ends_[i - 1]), data_.data() + segment_ends_[i], 0, 0};
    segment_ = segment;
    at_ = segment * layout_.restart_interval;
    predictions_ = {};
}

// Passes over everything before MCU number `target`, jumping to a restart marker where that is nearer.
bool Scan::skip_to(Mcu& mcu, long long target) {
    if (const long long segment = target / layout_.restart_interval; segment > segment_) {
        if (segment >= static_cast<long long>(segment_ends_.size())) return false;
        enter(segment);
    }
    return advance(target - at_, [&](int part) { return kernels().skip_mcus(bits_, mcu, part); });
}

template <class Function>
bool Scan::advance(long long count, const Function& function) {
    while (count > 0) {
        if (!enter_next_segment()) return false;
        const long long part = std::min(count, (segment_ + 1) * layout_.restart_interval - at_);
        if (!function(static_cast<int>(part))) return false;
        at_ += part;
        count -= part;
    }
    return at_ < layout_.size() ||
           (ends_well() && ends_with_marker_ && segment_ + 1 == static_cast<long long>(segment_ends_.size()));
}

// If all of this segment has been read; false if that is no good end, or no next one.
bool Scan::enter_next_segment() {
    if (at_ < (segment_ + 1) * layout_.restart_interval) return true;
    if (!ends_well() || segment_ + 1 == static_cast<long long>(segment_ends_.size())) return false;
    enter(segment_ + 1);
    return true;
}

// Only padding is left of the segment: less than a byte.
bool Scan::ends_well() const {
    const long long left = (bits_.end - bits_.at) * 8 + bits_.count;
    return left >= 0 && left < 8;
}

bool Scan::is_whole(Mcu& mcu, const EntryGrid* grid, std::vector<EntryPoint>* points) {
    const auto skip = [&](int part) { return kernels().skip_mcus(bits_, mcu, part); };
    if (grid == nullptr || !can_have_points()) return advance(layout_.size(), skip);
    FilePosition place(data_.data());
    for (int row = 0; row < grid->mcus_down; ++row)
        for (int column = 0; column < grid->mcus_across; column += grid->spacing) {
            if (!enter_next_segment()) return false;
            EntryPoint point{place.of(bits_, segment_), {}};
            std::ranges::transform(predictions_, point.predictions.begin(),
                                   [](int32_t prediction) { return static_cast<int16_t>(prediction); });
            points->push_back(point);
            if (!advance(std::min(grid->spacing, grid->mcus_across - column), skip)) return false;
        }
    return true;
}

}  // namespace ffcv
