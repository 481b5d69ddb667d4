// Operations on each pixel by itself, with Pillow's arithmetic: blends truncate and clamp after each step, luma is
// ITU-R 601 in 16-bit fixed point, and hue turns in eight-bit HSV. Same roundings, so the same pixels as torchvision on
// PIL images. Between steps a tile waits in the first-level cache as floats, which hold these whole numbers exactly.
#include "kernels/kernels.h"
#include "kernels/simd.h"

namespace ffcv {
namespace FFCV_ISA {
namespace {

struct Colour {
    Floats r, g, b;  // whole numbers within 0..255
};

// The products and their sum stay below 2^24, where floats are exact.
Floats luma(const Colour& c) {
    return truncate((c.r * 19595.0f + c.g * 38470.0f + c.b * 7471.0f + 32768.0f) * 0x1p-16f);
}

// The same from pairs of words, red and green, green and blue: green's weight is more than a word, and taken in halves.
Ints luma(Words red_green, Words green_blue) {
    const Ints most = add_pair_products(Ints{} + 32768, red_green, pair(19595, 19235));
    return add_pair_products(most, green_blue, pair(19235, 7471)) >> 16;
}

// What a step does with its results' fractions: the last one leaves them to write().
struct Truncated {
    Floats operator()(Floats x) const { return truncate(x); }
};
struct LeftAsTheyAre {
    Floats operator()(Floats x) const { return x; }
};

// Pillow's Image.blend: from `base` (factor 0) to `value` (factor 1) and beyond.
template <class Fractions>
Floats blend(Floats base, Floats value, float factor, Fractions fractions) {
    return fractions(smaller(larger(base + factor * (value - base), Floats{}), Floats{} + 255.0f));
}

template <class Fractions>
Colour blend(Floats base, const Colour& c, float factor, Fractions fractions) {
    const auto one = [&](Floats value) { return blend(base, value, factor, fractions); };
    return {one(c.r), one(c.g), one(c.b)};
}

Floats absolute(Floats x) { return (Floats)((Ints)x & 0x7fffffff); }

// Hue turned by `shift` 256ths, as Pillow's conversions to eight-bit HSV and back do it. Pillow mixes float and double;
// the float operations below, in this order, give its result for every colour and every shift.
template <class Fractions>
Colour turn_hue(const Colour& c, float shift, Fractions fractions) {
    const Floats one = Floats{} + 1.0f, none = Floats{};
    const Floats high = larger(c.r, larger(c.g, c.b)), range = high - smaller(c.r, smaller(c.g, c.b));
    const Ints red = c.r == high, green = c.g == high;
    const Floats ahead = red ? c.g - c.b : (green ? c.b - c.r : c.r - c.g);
    const Floats side = ahead < none ? -one : one;
    const Floats centre = red ? none : (green ? one + one : one + 3.0f);
    const Floats sixths = (centre + side) - side * ((range - absolute(ahead)) / larger(range, one));
    const Floats turn = sixths / 6.0f + (sixths < none ? one : none);
    const Floats turned = truncate(turn * 255.0f) + shift;  // grey has any hue: its saturation is 0
    const Floats hue = 6.0f * (turned >= 256.0f ? turned - 256.0f : turned);
    const Floats saturation = truncate(range * 255.0f / larger(high, one));

    // Each channel falls from the highest by `saturation` times its distance from the hue, 0..255.
    const Floats fall = high * (saturation * (1.0f / 65025.0f)), start = high + 0.5f;
    const auto channel = [&](Floats distance) {
        return fractions(start - fall * smaller(larger(distance, none), Floats{} + 255.0f));
    };
    return {channel(510.0f - absolute(hue - 765.0f)), channel(absolute(hue - 510.0f) - 255.0f),
            channel(absolute(hue - 1020.0f) - 255.0f)};
}

Floats solarize(Floats value, float threshold) { return value >= threshold ? 255.0f - value : value; }

static_assert(tile_pixels % lanes == 0);

struct Tile {
    alignas(64) float r[tile_pixels], g[tile_pixels], b[tile_pixels];
    size_t pixels;  // the last of them up to a multiple of `lanes` are filled up with anything

    template <class Operation>
    void each(Operation operation) {
        for (size_t i = 0; i < pixels; i += lanes) {
            const Colour colour = operation(Colour{load<Floats>(r + i), load<Floats>(g + i), load<Floats>(b + i)});
            store(r + i, colour.r);
            store(g + i, colour.g);
            store(b + i, colour.b);
        }
    }

    void apply_all(const PointStep* begin, const PointStep* end) {
        for (; begin + 1 != end; ++begin) apply(*begin, Truncated());
        apply(*begin, LeftAsTheyAre());
    }

    template <class Fractions>
    void apply(const PointStep& step, Fractions fractions) {
        const float amount = step.amount;
        switch (step.code) {
            case PointCode::blend:
                return each([=](const Colour& c) { return blend(Floats{} + step.base, c, amount, fractions); });
            case PointCode::saturation:
                return each([=](const Colour& c) { return blend(luma(c), c, amount, fractions); });
            case PointCode::hue:
                return each([=](const Colour& c) { return turn_hue(c, amount, fractions); });
            case PointCode::grayscale:
                return each([](const Colour& c) {
                    const Floats grey = luma(c);
                    return Colour{grey, grey, grey};
                });
            case PointCode::solarize:
                return each([=](const Colour& c) {
                    return Colour{solarize(c.r, amount), solarize(c.g, amount), solarize(c.b, amount)};
                });
            case PointCode::posterize: {
                const float inverse = 1.0f / amount;  // powers of two
                return each([=](const Colour& c) {
                    return Colour{truncate(c.r * inverse) * amount, truncate(c.g * inverse) * amount,
                                  truncate(c.b * inverse) * amount};
                });
            }
        }
    }
};

void read(const uint8_t* bytes, size_t count, float* out) {
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) store(out + i, to_float(widen(load<Bytes>(bytes + i))));
    for (; i < count; ++i) out[i] = static_cast<float>(bytes[i]);
}

void write(const float* values, size_t count, uint8_t* out) {
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) store(out + i, narrow(to_int(load<Floats>(values + i))));
    for (; i < count; ++i) out[i] = static_cast<uint8_t>(static_cast<int>(values[i]));
}

#if defined(__AVX512VBMI__)

constexpr bool can_look_up = true;

// `values` become what `table` has for them: two shuffles of 128 bytes, of which the values' highest bits choose.
void look_up(const uint8_t* table, size_t count, uint8_t* values) {
    __m512i parts[4];
    for (int i = 0; i < 4; ++i) parts[i] = _mm512_loadu_si512(table + 64 * i);
    for (size_t i = 0; i < count; i += 64) {
        const __mmask64 there = count - i >= 64 ? ~__mmask64{0} : (__mmask64{1} << (count - i)) - 1;
        const __m512i value = _mm512_maskz_loadu_epi8(there, values + i);
        const __m512i low = _mm512_permutex2var_epi8(parts[0], value, parts[1]);
        const __m512i high = _mm512_permutex2var_epi8(parts[2], value, parts[3]);
        const __m512i found = _mm512_mask_blend_epi8(_mm512_movepi8_mask(value), low, high);
        _mm512_mask_storeu_epi8(values + i, there, found);
    }
}

#else

constexpr bool can_look_up = false;  // computing is faster

void look_up(const uint8_t* table, size_t count, uint8_t* values) {
    for (size_t i = 0; i < count; ++i) values[i] = table[values[i]];
}

#endif

// What a step makes of a channel's value does not depend on the other channels.
bool takes_single_values(const PointStep& step) {
    return step.code == PointCode::blend || step.code == PointCode::solarize || step.code == PointCode::posterize;
}

// What such steps make of each value; false if there are none.
bool tabulate(const PointStep* begin, const PointStep* end, uint8_t* table) {
    if (begin == end) return false;
    Tile tile;
    tile.pixels = 256;
    for (size_t i = 0; i < tile.pixels; ++i) tile.r[i] = tile.g[i] = tile.b[i] = static_cast<float>(i);
    tile.apply_all(begin, end);
    write(tile.r, tile.pixels, table);
    return true;
}

}  // namespace

void plan_points(const PointStep* steps, int count, PointProgram& to) {
    to.begin = steps;
    to.end = steps + count;
    if (can_look_up) {
        while (to.begin != to.end && takes_single_values(*to.begin)) ++to.begin;
        while (to.begin != to.end && takes_single_values(to.end[-1])) --to.end;
    }
    to.looks_up_first = tabulate(steps, to.begin, to.first);
    to.looks_up_last = tabulate(to.end, steps + count, to.last);
}

void points(const Planar& view, const PointProgram& program) {
    const size_t n = view.plane_size();
    Tile tile;
    for (size_t begin = 0; begin < n; begin += tile_pixels) {
        tile.pixels = n - begin < tile_pixels ? n - begin : tile_pixels;
        uint8_t* const bytes[] = {view.plane(0) + begin, view.plane(1) + begin, view.plane(2) + begin};
        if (program.looks_up_first)
            for (uint8_t* const values : bytes) look_up(program.first, tile.pixels, values);
        if (program.begin != program.end) {
            float* const planes[] = {tile.r, tile.g, tile.b};
            for (int channel = 0; channel < 3; ++channel) read(bytes[channel], tile.pixels, planes[channel]);
            tile.apply_all(program.begin, program.end);
            for (int channel = 0; channel < 3; ++channel) write(planes[channel], tile.pixels, bytes[channel]);
        }
        if (program.looks_up_last)
            for (uint8_t* const values : bytes) look_up(program.last, tile.pixels, values);
    }
}

uint64_t luma_sum(const Planar& view) {
    const size_t n = view.plane_size();
    const uint8_t *r = view.plane(0), *g = view.plane(1), *b = view.plane(2);
    uint64_t sum = 0;
    size_t i = 0;
    while (i + 2 * lanes <= n) {
        constexpr size_t most = 65536;  // sums stay below 2^32
        const size_t end = n - i < most ? n : i + most;
        Ints sums{};
        for (; i + 2 * lanes <= end; i += 2 * lanes) {
            const auto words = [i](const uint8_t* plane) { return widen(load<WideBytes>(plane + i)); };
            const Words red = words(r), green = words(g), blue = words(b);
            sums += luma(interleave_low(red, green), interleave_low(green, blue));
            sums += luma(interleave_high(red, green), interleave_high(green, blue));
        }
        for (int lane = 0; lane < lanes; ++lane) sum += static_cast<uint32_t>(sums[lane]);
    }
    for (; i < n; ++i) sum += (r[i] * 19595u + g[i] * 38470u + b[i] * 7471u + 0x8000u) >> 16;
    return sum;
}

}  // namespace FFCV_ISA
}  // namespace ffcv
