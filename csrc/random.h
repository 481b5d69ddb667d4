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

// A permutation of 0..size-1 that is a function of (seed, epoch, stream) alone and takes no memory: a Feistel network
// over the smallest 2^bits >= size, with Philox as its round function, walked until it lands inside (Black and Rogaway,
// "Ciphers with arbitrary finite domains", 2002): fewer than two steps on average where size > 128.
class Permutation {
public:
    Permutation(uint64_t seed, uint32_t stream, uint32_t epoch, uint64_t size)
        : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)}, stream_(stream), epoch_(epoch) {
        size_ = size;
        while (bits_ < 64 && (uint64_t{1} << bits_) < size) ++bits_;
    }

    uint64_t operator()(uint64_t position) const {
        do position = step(position);
        while (position >= size_);
        return position;
    }

private:
    static constexpr uint32_t rounds = 8;

    uint64_t step(uint64_t value) const {
        // Halves of unequal size swap roles; `low` bits at the right are those that the round function reads.
        int low = bits_ / 2;
        for (uint32_t round = 0; round < rounds; ++round) {
            const int high = bits_ - low;
            const uint64_t right = value & ((uint64_t{1} << low) - 1), left = value >> low;
            const Words words = philox4x32(
                {static_cast<uint32_t>(right), epoch_, stream_, round | static_cast<uint32_t>(right >> 32) << 4}, key_);
            const uint64_t noise = (words[0] | uint64_t{words[1]} << 32) & ((uint64_t{1} << high) - 1);
            value = right << high | (left ^ noise);
            low = high;
        }
        return value;
    }

    std::array<uint32_t, 2> key_;
    uint32_t stream_, epoch_;
    uint64_t size_ = 0;
    int bits_ = 8;  // at least: smaller networks are visibly uneven
};

}  // namespace ffcv
