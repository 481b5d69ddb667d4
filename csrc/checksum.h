// CRC32C (Castagnoli): the checksum of a file's allocations and tables.
#pragma once
#include <cstdint>
#include <span>

namespace ffcv {

inline constexpr uint32_t crc32c_polynomial = 0x82f63b78;  // reflected: bit i is the coefficient of x^(31 - i)

// The CRC32C of `bytes`; `crc` is that of what comes before them. The same value on every machine.
uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc = 0);

// A way to compute it; all give the same value.
struct Crc32cWay {
    const char* name;
    uint32_t (*sum)(std::span<const uint8_t> bytes, uint32_t crc);
};

// Those that this machine has, the fastest first: `crc32c` takes that one. The last is plain C++.
std::span<const Crc32cWay> crc32c_ways();

#if defined(__x86_64__)
uint32_t crc32c_sse42(std::span<const uint8_t> bytes, uint32_t crc);
uint32_t crc32c_folding(std::span<const uint8_t> bytes, uint32_t crc);  // AVX-512 and VPCLMULQDQ
#endif

}  // namespace ffcv
