// CRC32C (Castagnoli): the checksum of a file's allocations and tables.
#pragma once
#include <cstdint>
#include <span>

namespace ffcv {

// The CRC32C of `bytes`; `crc` is that of what comes before them. The same value on every machine.
uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc = 0);

// The same in plain C++, for machines without the instruction (and for tests).
uint32_t crc32c_portable(std::span<const uint8_t> bytes, uint32_t crc = 0);

}  // namespace ffcv
