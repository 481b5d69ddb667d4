// One table of this directory's kernels for each instruction set.
#include "kernels/kernels.h"

#define FFCV_TEXT(name) #name
#define FFCV_NAME(name) FFCV_TEXT(name)

namespace ffcv {
namespace FFCV_ISA {

void resample(const uint8_t*, size_t, int, int, const Taps&, const Taps&, bool, uint8_t*, const Planar&);
void deinterleave(const uint8_t*, size_t, bool, const Planar&);
void flip_horizontal(const Planar&);
void brightness(const Planar&, float);
void contrast(const Planar&, float);
void saturation(const Planar&, float);
void hue(const Planar&, float);
void grayscale(const Planar&);
void solarize(const Planar&, int);
void blur(const Planar&, const int32_t*, int, uint8_t*);
void pack_float32(const Planar&, const float*, const float*, bool, float*);
void pack_float16(const Planar&, const float*, const float*, bool, uint16_t*);
void pack_uint8(const Planar&, bool, uint8_t*);

extern const KernelTable table;
const KernelTable table = {
    .isa = FFCV_NAME(FFCV_ISA),
    .resample = resample,
    .deinterleave = deinterleave,
    .flip_horizontal = flip_horizontal,
    .brightness = brightness,
    .contrast = contrast,
    .saturation = saturation,
    .hue = hue,
    .grayscale = grayscale,
    .solarize = solarize,
    .blur = blur,
    .pack_float32 = pack_float32,
    .pack_float16 = pack_float16,
    .pack_uint8 = pack_uint8,
};

}  // namespace FFCV_ISA
}  // namespace ffcv
