// Restart markers at the beginning of every row of MCUs, from which decoding can start there.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace ffcv {

// The same image (every coefficient kept) as a baseline JPEG in which each row of MCUs ends with a restart marker.
// Metadata segments (EXIF, ICC, comments) are kept. Throws DecodeError for damaged input.
std::vector<uint8_t> add_restart_markers(std::span<const uint8_t> jpeg);

// Where the entropy-coded data of each row of MCUs begin, in bytes from the start of `jpeg`; empty unless the file is a
// sequential Huffman-coded JPEG of one scan whose restart interval is just one row.
std::vector<uint32_t> restart_index(std::span<const uint8_t> jpeg);

}  // namespace ffcv
