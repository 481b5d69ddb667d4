#include "region_decoder.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include <jpeglib.h>

#include "grown.h"
#include "kernels/kernels.h"

namespace ffcv {

namespace {

constexpr size_t row_margin = 64;            // left of a plane's rows: a sample is repeated there
constexpr size_t row_padding = 64;           // right of them: kernels read whole registers
constexpr int pixels_between_points = 64;    // in a row: what is decoded in vain, against 3% of a photograph's bytes
constexpr size_t largest_planes = 64 << 20;  // of memory beside the pixels; libjpeg-turbo needs a few rows only

constexpr int divided_up(int a, int b) { return (a + b - 1) / b; }

// Quantizers `from` [64], in rows, as the DCT needs them; false if they are too large for it.
bool arrange(const uint16_t* from, Quantizers& to) {
    for (int row = 0; row < 8; ++row)
        for (int column = 0; column < 8; ++column) {
            const int factor = *from++, place = Quantizers::place(row, column);
            if (factor > largest_coefficient) return false;
            to.factors[place] = static_cast<int16_t>(factor);
            to.limits[place] = static_cast<int16_t>(largest_coefficient / std::max(factor, 1));
        }
    return true;
}

}  // namespace

std::optional<Pixels> RegionDecoder::decode(const jpeg_decompress_struct& info, const Region& wanted,
                                            const EntryPoints* points, std::vector<uint8_t>& buffer) {
    if (!read_scan(info, true) || !read_samples(info) || !choose_mcus(wanted)) return {};
    if (!scan_.open({info.src->next_input_byte, info.src->bytes_in_buffer}, layout_, points)) return {};

    std::array<Mcu, Scan::rows_together> mcus{make_mcu(0), make_mcu(1)};
    const size_t stride = round_up(static_cast<size_t>(wanted.width), 64);
    const size_t plane = stride * static_cast<size_t>(wanted.height), num_planes = num_components_ == 1 ? 1 : 3;
    uint8_t* const pixels = grown(buffer, plane * num_planes + pixels_padding);
    std::array<uint8_t*, 3> planes{pixels, pixels + plane, pixels + 2 * plane};
    if (num_planes == 1) planes = {pixels, pixels, pixels};  // grey
    const int mcu_height = 8 * components_[0].down;
    Range ready{wanted.top, wanted.top};
    for (int row = rows_.begin; row < rows_.end;) {
        const int together = scan_.together(rows_.end - row), next = row + together;
        for (int i = 0; i < together; ++i) place_blocks(mcus[static_cast<size_t>(i)], row + i);
        if (!scan_.decode(std::span(mcus).first(static_cast<size_t>(together)), row, columns_)) return {};
        // The last row of an MCU whose chroma is halved needs chroma from below.
        const int complete = next * mcu_height - (components_[0].down == 2 ? 1 : 0);
        const int bottom = wanted.top + wanted.height;
        ready = {ready.end, next == rows_.end ? bottom : std::clamp(complete, ready.end, bottom)};
        row = next;
        convert_rows(wanted, ready, planes, stride);
    }
    return Pixels{{{planes[0], planes[1], planes[2]}, stride, PixelLayout::planes}, wanted};
}

bool RegionDecoder::is_whole(const jpeg_decompress_struct& info, size_t jpeg_size, std::vector<uint8_t>* points) {
    if (!read_scan(info, false)) return false;
    if (!scan_.open({info.src->next_input_byte, info.src->bytes_in_buffer}, layout_, nullptr)) return false;
    Mcu mcu = make_mcu(0);
    if (points == nullptr) return scan_.is_whole(mcu, nullptr, nullptr);
    const EntryGrid grid{layout_.mcus_across, layout_.mcus_down, num_components_,
                         std::max(1, pixels_between_points / (8 * components_[0].across))};
    std::vector<EntryPoint> found;
    if (!scan_.is_whole(mcu, &grid, &found)) return false;
    if (!found.empty()) *points = EntryPoints::pack(grid, found, jpeg_size);
    return true;
}

// What the MCUs of the only scan consist of; false for scans of another kind.
bool RegionDecoder::read_scan(const jpeg_decompress_struct& info, bool with_values) {
    if (info.progressive_mode || info.arith_code || info.data_precision != 8 ||
        info.comps_in_scan != info.num_components || info.Ss != 0 || info.Se != 63 || info.Ah != 0 || info.Al != 0)
        return false;
    num_components_ = info.num_components;
    const bool alone = num_components_ == 1;  // a component alone comes block by block
    int blocks = 0;
    for (int i = 0; i < num_components_; ++i) {
        const jpeg_component_info& from = info.comp_info[i];
        Component& c = components_[static_cast<size_t>(i)];
        if (info.cur_comp_info[i] != &from) return false;
        c.across = alone ? 1 : from.h_samp_factor;
        c.down = alone ? 1 : from.v_samp_factor;
        c.dc = table(info, from.dc_tbl_no, true, with_values);
        c.ac = table(info, from.ac_tbl_no, false, with_values);
        if (c.dc == nullptr || c.ac == nullptr) return false;
        blocks += c.across * c.down;
    }
    if (blocks > Mcu::max_blocks) return false;
    layout_ = {divided_up(static_cast<int>(info.image_width), 8 * (alone ? 1 : info.max_h_samp_factor)),
               divided_up(static_cast<int>(info.image_height), 8 * (alone ? 1 : info.max_v_samp_factor)),
               num_components_, 0};
    const long long total = layout_.size();
    layout_.restart_interval = info.restart_interval == 0 ? total : std::min<long long>(info.restart_interval, total);
    return true;
}

// How samples become pixels; false where only libjpeg-turbo knows.
bool RegionDecoder::read_samples(const jpeg_decompress_struct& info) {
    const bool grey = num_components_ == 1 && info.jpeg_color_space == JCS_GRAYSCALE;
    if (!grey && (num_components_ != 3 || info.jpeg_color_space != JCS_YCbCr)) return false;
    const Component& luma = components_[0];
    const bool known = (luma.across == 1 && luma.down == 1) || (luma.across == 2 && luma.down <= 2);
    if (!known) return false;
    const int width = static_cast<int>(info.image_width), height = static_cast<int>(info.image_height);
    for (int i = 0; i < num_components_; ++i) {
        const int number = info.comp_info[i].quant_tbl_no, tables = NUM_QUANT_TBLS;
        const JQUANT_TBL* const quantizers = number < 0 || number >= tables ? nullptr : info.quant_tbl_ptrs[number];
        Component& c = components_[static_cast<size_t>(i)];
        if (quantizers == nullptr || (i > 0 && (c.across != 1 || c.down != 1))) return false;
        if (!arrange(quantizers->quantval, c.quantizers)) return false;
        c.width = divided_up(width * c.across, luma.across);
        c.height = divided_up(height * c.down, luma.down);
    }
    return luma.across != 2 || num_components_ == 1 || components_[1].width > 2;  // libjpeg repeats such narrow chroma
}

const HuffmanLookup* RegionDecoder::table(const jpeg_decompress_struct& info, int number, bool is_dc,
                                          bool with_values) {
    if (number < 0 || number >= 4) return nullptr;
    const JHUFF_TBL* const from = is_dc ? info.dc_huff_tbl_ptrs[number] : info.ac_huff_tbl_ptrs[number];
    if (from == nullptr) return nullptr;
    std::unique_ptr<HuffmanTable>& kept = tables_[static_cast<size_t>(number + (is_dc ? 0 : 4))];
    if (kept == nullptr) kept.reset(new HuffmanTable);  // not set to zeros, as make_unique would
    return kept->make(from->bits, from->huffval, is_dc, with_values);
}

// The blocks of an MCU in the scan's order, for one of the rows that are decoded together.
Mcu RegionDecoder::make_mcu(int row) {
    Mcu mcu{};
    for (int i = 0; i < num_components_; ++i) {
        Component& c = components_[static_cast<size_t>(i)];
        for (int block = 0; block < c.across * c.down; ++block)
            mcu.blocks[mcu.num_blocks++] = {c.dc,
                                            c.ac,
                                            &c.quantizers,
                                            scan_.prediction(i, row),
                                            nullptr,
                                            c.stride,
                                            static_cast<size_t>(c.across) * 8};
    }
    return mcu;
}

// Where the samples of the MCUs of row `row` go.
void RegionDecoder::place_blocks(Mcu& mcu, int row) const {
    McuBlock* block = mcu.blocks;
    for (int i = 0; i < num_components_; ++i) {
        const Component& c = components_[static_cast<size_t>(i)];
        uint8_t* const corner = c.plane + static_cast<size_t>((row - rows_.begin) * 8 * c.down) * c.stride;
        for (int y = 0; y < c.down; ++y)
            for (int x = 0; x < c.across; ++x)
                (block++)->out = corner + static_cast<size_t>(8 * y) * c.stride + static_cast<size_t>(8 * x);
    }
}

// The MCUs that `wanted` needs: where chroma is halved, with one chroma sample more on every side.
bool RegionDecoder::choose_mcus(const Region& wanted) {
    const auto needed = [](int begin, int size, int factor, int samples) {
        const int last = begin + size - 1;
        if (factor == 1) return Range{begin / 8, last / 8 + 1};
        return Range{std::max(0, begin / 2 - 1) / 8, std::min(samples - 1, last / 2 + 1) / 8 + 1};
    };
    const Component& luma = components_[0];
    const Component& chroma = components_[static_cast<size_t>(num_components_ - 1)];
    columns_ = needed(wanted.left, wanted.width, luma.across, chroma.width);
    rows_ = needed(wanted.top, wanted.height, luma.down, chroma.height);
    size_t offsets[3], total = 0;
    for (size_t i = 0; i < static_cast<size_t>(num_components_); ++i) {
        Component& c = components_[i];
        c.stride = row_margin + static_cast<size_t>(columns_.size() * 8 * c.across) + row_padding;
        offsets[i] = total + row_margin;
        total += c.stride * static_cast<size_t>(rows_.size() * 8 * c.down);
    }
    if (total > largest_planes) return false;
    uint8_t* const planes = grown(planes_, total + row_padding);
    for (size_t i = 0; i < static_cast<size_t>(num_components_); ++i) components_[i].plane = planes + offsets[i];
    return true;
}

// Row `y` of a component, from sample `first`; where chroma is halved across, the samples at the image's edges are
// repeated beyond them.
uint8_t* RegionDecoder::row_of(const Component& c, int y, int first, int count) const {
    const int top = rows_.begin * 8 * c.down, left = columns_.begin * 8 * c.across;
    uint8_t* const row =
        c.plane + static_cast<size_t>(std::clamp(y, 0, c.height - 1) - top) * c.stride + (first - left);
    if (first == 0) row[-1] = row[0];
    if (first + count == c.width) row[count] = row[count - 1];
    return row;
}

// Rows `rows` of the image, columns of `wanted`, to their place in `planes`.
void RegionDecoder::convert_rows(const Region& wanted, Range rows, const std::array<uint8_t*, 3>& planes,
                                 size_t stride) {
    const Component& luma = components_[0];
    const bool across = num_components_ == 3 && luma.across == 2, down = num_components_ == 3 && luma.down == 2;
    const int first = across ? wanted.left / 2 : wanted.left;  // of the chroma samples
    const int count = across ? (wanted.left + wanted.width - 1) / 2 - first + 1 : wanted.width;
    const size_t upsampled_row = 2 * static_cast<size_t>(count) + row_padding;
    uint8_t* const scratch = grown(row_scratch_, 2 * upsampled_row);

    for (int y = rows.begin; y < rows.end; ++y) {
        const uint8_t* const luma_row = row_of(luma, y, wanted.left, wanted.width);
        const size_t offset = static_cast<size_t>(y - wanted.top) * stride;
        if (num_components_ == 1) {
            std::memcpy(planes[0] + offset, luma_row, static_cast<size_t>(wanted.width));
            continue;
        }
        const uint8_t* chroma[2];
        for (size_t i = 0; i < 2; ++i) {
            const Component& c = components_[i + 1];
            const uint8_t* const near = row_of(c, down ? y / 2 : y, first, count);
            chroma[i] = near;
            if (!across) continue;
            uint8_t* const upsampled = scratch + i * upsampled_row;
            if (down)
                kernels().upsample_both(near, row_of(c, y % 2 == 0 ? y / 2 - 1 : y / 2 + 1, first, count), count,
                                        upsampled);
            else
                kernels().upsample_across(near, count, upsampled);
            chroma[i] = upsampled + wanted.left % 2;
        }
        uint8_t* const target[3] = {planes[0] + offset, planes[1] + offset, planes[2] + offset};
        kernels().ycbcr_to_rgb(luma_row, chroma[0], chroma[1], wanted.width, target);
    }
}

}  // namespace ffcv
