// The entropy-coded data of a sequential JPEG's only scan, from MCU to MCU.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "entry_points.h"
#include "kernels/mcu.h"

namespace ffcv {

// Half-open ranges of a component's samples or of MCUs.
struct Range {
    int begin, end;
    int size() const { return end - begin; }
};

class Scan {
public:
    struct Layout {
        int mcus_across, mcus_down, num_components;
        long long restart_interval;  // in MCUs; of all of them if there is none

        long long size() const { return static_cast<long long>(mcus_across) * mcus_down; }
    };

    static constexpr int rows_together = 2;  // at most

    // Where MCUs keep a component's prediction (`McuBlock::prediction`), those of each row that is decoded together.
    int32_t* prediction(int component, int row = 0) {
        return &predictions_[static_cast<size_t>(row)][static_cast<size_t>(component)];
    }

    // Begins with the scan whose data, with all that follows in the file, are `bytes`. `points`, which outlive the
    // reading, are used if they are of this layout. False if the restart markers are not in turn.
    bool open(std::span<const uint8_t> bytes, const Layout& layout, const EntryPoints* points);

    // How many rows can be decoded together: all that are asked for, up to `rows_together`, or one.
    int together(int rows) const { return points_ == nullptr ? 1 : std::min(rows, rows_together); }

    // Decodes MCUs `columns` of row `row` and those that are decoded together with it, with an MCU for each; rows rise
    // from call to call. False for damaged data.
    bool decode(std::span<Mcu> mcus, int row, Range columns);

    // True if the data are surely without damage: they hold exactly the codes of all MCUs, the restart markers in turn,
    // and the end marker. Adds the points of `grid` (null: none are wanted) to `points`, if there can be some.
    bool is_whole(Mcu& mcu, const EntryGrid* grid, std::vector<EntryPoint>* points);

    // Points lie in rows; where restart markers part a row, predictions would have to begin anew between them.
    bool can_have_points() const;

private:
    bool copy_all();
    bool decode_from_points(std::span<Mcu> mcus, int row, Range columns);
    bool enter_at_point(int row, Range columns, int number);
    bool skip_to(Mcu& mcu, long long target);
    template <class Function>
    bool advance(long long count, const Function& function);
    void enter(long long segment);
    bool enter_next_segment();
    static bool ends_well(const EntropyBits& bits);

    std::span<const uint8_t> bytes_;
    Layout layout_{};
    const EntryPoints* points_ = nullptr;
    // Of each row that is decoded together; where the scan is read from its beginning, of the first only.
    std::array<std::array<int32_t, 4>, rows_together> predictions_{};
    std::array<EntropyBits, rows_together> bits_{};
    std::array<std::vector<uint8_t>, rows_together> data_;  // without stuffed zeros and markers

    // Where the scan is read from its beginning:
    std::vector<size_t> segment_ends_;  // in `data_`
    bool ends_with_marker_ = false;     // the end marker
    long long segment_ = 0, at_ = 0;
};

}  // namespace ffcv
