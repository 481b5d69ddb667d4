#include "entry_points.h"

#include <cstring>

#include "checksum.h"

namespace ffcv {

namespace {

constexpr uint32_t magic = 0x31504546;  // "FEP1"

// All numbers are little endian, as the rest of the file.
struct Header {
    uint32_t magic;
    uint32_t checksum;  // CRC32C of what follows
    uint32_t jpeg_size;
    uint16_t mcus_across, mcus_down;
    uint16_t spacing;
    uint16_t num_components;
};
static_assert(sizeof(Header) == 20);
constexpr size_t unsummed = 8;  // bytes, of the header

size_t packed_size(const EntryGrid& grid) {
    return sizeof(Header) + grid.size() * (4 + 2 * static_cast<size_t>(grid.num_components));
}

template <class T>
T load(const uint8_t* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

}  // namespace

std::optional<EntryPoints> EntryPoints::parse(std::span<const uint8_t> behind, size_t jpeg_size) {
    if (behind.size() < sizeof(Header)) return {};
    const Header header = load<Header>(behind.data());
    if (header.magic != magic || header.jpeg_size != jpeg_size) return {};
    if (header.spacing == 0 || header.num_components == 0 || header.num_components > 4) return {};
    EntryPoints points;
    points.grid_ = {header.mcus_across, header.mcus_down, header.num_components, header.spacing};
    const size_t size = packed_size(points.grid_);
    if (size > behind.size() || crc32c(behind.subspan(unsummed, size - unsummed)) != header.checksum) return {};
    points.positions_ = behind.data() + sizeof header;
    points.predictions_ = points.positions_ + 4 * points.grid_.size();
    return points;
}

EntryPoint EntryPoints::operator[](size_t number) const {
    EntryPoint point{load<uint32_t>(positions_ + 4 * number), {}};
    const size_t count = static_cast<size_t>(grid_.num_components);
    std::memcpy(point.predictions.data(), predictions_ + 2 * count * number, 2 * count);
    return point;
}

std::vector<uint8_t> EntryPoints::pack(const EntryGrid& grid, std::span<const EntryPoint> points, size_t jpeg_size) {
    std::vector<uint8_t> bytes(packed_size(grid));
    uint8_t* position = bytes.data() + sizeof(Header);
    uint8_t* predictions = position + 4 * points.size();
    const size_t of_point = 2 * static_cast<size_t>(grid.num_components);
    for (const EntryPoint& point : points) {
        std::memcpy(position, &point.position, 4);
        std::memcpy(predictions, point.predictions.data(), of_point);
        position += 4;
        predictions += of_point;
    }
    Header header{magic,
                  0,
                  static_cast<uint32_t>(jpeg_size),
                  static_cast<uint16_t>(grid.mcus_across),
                  static_cast<uint16_t>(grid.mcus_down),
                  static_cast<uint16_t>(grid.spacing),
                  static_cast<uint16_t>(grid.num_components)};
    std::memcpy(bytes.data(), &header, sizeof header);
    header.checksum = crc32c(std::span(bytes).subspan(unsummed));
    std::memcpy(bytes.data(), &header, sizeof header);
    return bytes;
}

}  // namespace ffcv
