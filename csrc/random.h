// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter in, four random
// words out. Every random decision of the package is such a function of (seed, stream, epoch, sample), never of the
// thread, slot, batch or rank that happens to ask.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace ffcv {

using Words = std::array<uint32_t, 4>;

inline Words philox4x32(Words counter, std::array<uint32_t, 2> key) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t{0xD2511F53u} * counter[0];
        const uint64_t b = uint64_t{0xCD9E8D57u} * counter[2];
        counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
                   static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
    return counter;
}

// `count` uniforms in [0, 1), multiples of 2^-32, for one sample. The counter is (sample index, epoch, stream, draw
// block); bits 32..47 of the index ride in the upper half of the block word, so 2^48 samples have streams of their own.
inline void uniforms(uint64_t seed, uint32_t stream, uint32_t epoch, uint64_t sample, double* out, size_t count) {
    const std::array<uint32_t, 2> key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    for (size_t first = 0; first < count; first += 4) {
        const uint32_t block = static_cast<uint32_t>(first / 4) | static_cast<uint32_t>(sample >> 32) << 16;
        const Words words = philox4x32({static_cast<uint32_t>(sample), epoch, stream, block}, key);
        for (size_t i = first; i < count && i < first + 4; ++i) out[i] = words[i - first] * 0x1p-32;
    }
}

}  // namespace ffcv
