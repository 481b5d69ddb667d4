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

bool Scan::decode(std::span<Mcu> mcus, int row, Range columns) {
    if (points_ != nullptr) return decode_from_points(mcus, row, columns);
    if (!skip_to(mcus[0], static_cast<long long>(row) * layout_.mcus_across + columns.begin)) return false;
    return advance(columns.size(), [&](int part) { return kernels().decode_mcus(bits_[0], mcus[0], part); });
}

bool Scan::decode_from_points(std::span<Mcu> mcus, int row, Range columns) {
    const int spacing = points_->grid().spacing;
    for (size_t i = 0; i < mcus.size(); ++i) {
        if (!enter_at_point(row, columns, static_cast<int>(i))) return false;
        if (!kernels().skip_mcus(bits_[i], mcus[i], columns.begin % spacing)) return false;
    }
    const bool is_decoded = mcus.size() == 2 ? kernels().decode_two_rows(bits_.data(), mcus.data(), columns.size())
                                             : kernels().decode_mcus(bits_[0], mcus[0], columns.size());
    // If all up to the next point, or marker, has been read, it is seen whether that was right.
    const bool is_complete = columns.end % spacing == 0 || columns.end == layout_.mcus_across;
    return is_decoded && (!is_complete || std::all_of(bits_.begin(), bits_.begin() + mcus.size(), ends_well));
}

// Makes `bits_[number]` begin at the last point before `columns` of the row that is `number` below `row`.
bool Scan::enter_at_point(int row, Range columns, int number) {
    const EntryGrid& grid = points_->grid();
    const size_t n = static_cast<size_t>(number);
    const size_t of_row = (static_cast<size_t>(row) + n) * static_cast<size_t>(grid.per_row());
    const EntryPoint from = (*points_)[of_row + static_cast<size_t>(columns.begin / grid.spacing)];
    const size_t after = of_row + static_cast<size_t>((columns.end + grid.spacing - 1) / grid.spacing);
    const size_t begin = from.position / 8;
    size_t end = after < grid.size() ? ((*points_)[after].position + size_t{7}) / 8 : bytes_.size();
    if (begin >= end || end > bytes_.size()) return false;
    if (bytes_[end - 1] == 0xff && end < bytes_.size()) ++end;  // its stuffed zero

    uint8_t* const data = grown(data_[n], end - begin + EntropyBits::padding);
    uint8_t* out = data;
    unstuff(bytes_.data() + begin, bytes_.data() + end, out);
    std::memset(out, 0, EntropyBits::padding);
    if (out == data) return false;
    const int used = static_cast<int>(from.position % 8);
    bits_[n] = {data + 1, out, uint64_t{data[0]} << (56 + used), 8 - used};
    std::copy_n(from.predictions.begin(), predictions_[n].size(), predictions_[n].begin());
    return true;
}

// The whole scan; notes where restart markers were. False if they are not in turn.
bool Scan::copy_all() {
    uint8_t* out = grown(data_[0], bytes_.size() + EntropyBits::padding);
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
        segment_ends_.push_back(static_cast<size_t>(out - data_[0].data()));
        at += 2;
    }
    segment_ends_.push_back(static_cast<size_t>(out - data_[0].data()));
    std::memset(out, 0, EntropyBits::padding);
    const long long segments = (layout_.size() + layout_.restart_interval - 1) / layout_.restart_interval;
    if (static_cast<long long>(segment_ends_.size()) != segments) return false;
    enter(0);
    return true;
}

void Scan::enter(long long segment) {
    const size_t i = static_cast<size_t>(segment);
    const uint8_t* const data = data_[0].data();
    bits_[0] = {data + (i == 0 ? 0 : segment_ends_[i - 1]), data + segment_ends_[i], 0, 0};
    segment_ = segment;
    at_ = segment * layout_.restart_interval;
    predictions_[0] = {};
}

// Passes over everything before MCU number `target`, jumping to a restart marker where that is nearer.
bool Scan::skip_to(Mcu& mcu, long long target) {
    if (const long long segment = target / layout_.restart_interval; segment > segment_) {
        if (segment >= static_cast<long long>(segment_ends_.size())) return false;
        enter(segment);
    }
    return advance(target - at_, [&](int part) { return kernels().skip_mcus(bits_[0], mcu, part); });
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
           (ends_well(bits_[0]) && ends_with_marker_ && segment_ + 1 == static_cast<long long>(segment_ends_.size()));
}

// If all of this segment has been read; false if that is no good end, or no next one.
bool Scan::enter_next_segment() {
    if (at_ < (segment_ + 1) * layout_.restart_interval) return true;
    if (!ends_well(bits_[0]) || segment_ + 1 == static_cast<long long>(segment_ends_.size())) return false;
    enter(segment_ + 1);
    return true;
}

// Only padding is left of the segment: less than a byte.
bool Scan::ends_well(const EntropyBits& bits) {
    const long long left = (bits.end - bits.at) * 8 + bits.count;
    return left >= 0 && left < 8;
}

bool Scan::is_whole(Mcu& mcu, const EntryGrid* grid, std::vector<EntryPoint>* points) {
    const auto skip = [&](int part) { return kernels().skip_mcus(bits_[0], mcu, part); };
    if (grid == nullptr || !can_have_points()) return advance(layout_.size(), skip);
    FilePosition place(data_[0].data());
    for (int row = 0; row < grid->mcus_down; ++row)
        for (int column = 0; column < grid->mcus_across; column += grid->spacing) {
            if (!enter_next_segment()) return false;
            EntryPoint point{place.of(bits_[0], segment_), {}};
            std::ranges::transform(predictions_[0], point.predictions.begin(),
                                   [](int32_t prediction) { return static_cast<int16_t>(prediction); });
            points->push_back(point);
            if (!advance(std::min(grid->spacing, grid->mcus_across - column), skip)) return false;
        }
    return true;
}

}  // namespace ffcv
