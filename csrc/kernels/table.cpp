// One table of this directory's kernels for each instruction set.
#include "kernels/kernels.h"

#define FFCV_TEXT(name) #name
#define FFCV_NAME(name) FFCV_TEXT(name)

namespace ffcv {
namespace FFCV_ISA {

void resample(const Rgb&, int, int, const Taps&, const Taps&, uint8_t*, const Canvas&);
void copy_pixels(const Rgb&, bool, const Canvas&);
void flip_horizontal(const Planar&);
void plan_points(const PointStep*, int, PointProgram&);
void points(const Planar&, const PointProgram&);
uint64_t luma_sum(const Planar&);
void flip_vertical(const Planar&);
void affine(const Planar&, const double*, bool, const uint8_t*, uint8_t*);
void fill_box(const Planar&, int, int, int, int, const uint8_t*);
void equalize(const Planar&);
void autocontrast(const Planar&);
void sharpness(const Planar&, float, uint8_t*);
void add_noise(const Planar&, float, float, uint32_t, uint32_t);
void blur(const Planar&, const int16_t*, int, uint8_t*);
void pack_float32(const Planar&, const float*, const float*, bool, float*);
void pack_float16(const Planar&, const float*, const float*, bool, uint16_t*);
void pack_bfloat16(const Planar&, const float*, const float*, bool, uint16_t*);
void pack_uint8(const Planar&, bool, uint8_t*);
bool decode_mcus(EntropyBits&, Mcu&, int);
bool decode_two_rows(EntropyBits*, Mcu*, int);
bool skip_mcus(EntropyBits&, const Mcu&, int);
void upsample_across(const uint8_t*, int, uint8_t*);
void upsample_both(const uint8_t*, const uint8_t*, int, uint8_t*);
void ycbcr_to_rgb(const uint8_t*, const uint8_t*, const uint8_t*, int, uint8_t* const*);

extern const KernelTable table;
const KernelTable table = {
    .isa = FFCV_NAME(FFCV_ISA),
    .resample = resample,
    .copy_pixels = copy_pixels,
    .flip_horizontal = flip_horizontal,
    .plan_points = plan_points,
    .points = points,
    .luma_sum = luma_sum,
    .flip_vertical = flip_vertical,
    .affine = affine,
    .fill_box = fill_box,
    .equalize = equalize,
    .autocontrast = autocontrast,
    .sharpness = sharpness,
    .add_noise = add_noise,
    .blur = blur,
    .pack_float32 = pack_float32,
    .pack_float16 = pack_float16,
    .pack_bfloat16 = pack_bfloat16,
    .pack_uint8 = pack_uint8,
    .decode_mcus = decode_mcus,
    .decode_two_rows = decode_two_rows,
    .skip_mcus = skip_mcus,
    .upsample_across = upsample_across,
    .upsample_both = upsample_both,
    .ycbcr_to_rgb = ycbcr_to_rgb,
};

}  // namespace FFCV_ISA
}  // namespace ffcv
