// Where decoding can begin in the middle of an ordinary JPEG: kept in the file, behind the JPEG (docs/format.md).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ffcv {

// A place between two MCUs of a scan.
struct EntryPoint {
    uint32_t position;                   // in bits, from the beginning of the scan's data as they are in the file
    std::array<int16_t, 4> predictions;  // of DC coefficients, by component
};

// How the points of a JPEG are chosen: one every `spacing` MCUs of each row, from its first.
struct EntryGrid {
    int mcus_across = 0, mcus_down = 0, num_components = 0, spacing = 1;

    int per_row() const { return (mcus_across + spacing - 1) / spacing; }
    size_t size() const { return static_cast<size_t>(per_row()) * static_cast<size_t>(mcus_down); }

    bool operator==(const EntryGrid&) const = default;
};

// The points of one JPEG, read where they lie.
class EntryPoints {
public:
    // What `behind` begins with, if that is the points of a JPEG of `jpeg_size` bytes, undamaged.
    static std::optional<EntryPoints> parse(std::span<const uint8_t> behind, size_t jpeg_size);

    const EntryGrid& grid() const { return grid_; }
    EntryPoint operator[](size_t number) const;

    // As they are kept in the file.
    static std::vector<uint8_t> pack(const EntryGrid& grid, std::span<const EntryPoint> points, size_t jpeg_size);

private:
    EntryPoints() = default;

    EntryGrid grid_;
    const uint8_t* positions_ = nullptr;
    const uint8_t* predictions_ = nullptr;
};

}  // namespace ffcv
