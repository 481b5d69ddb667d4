// Chooses the kernels at run time.
#include <atomic>
#include <string_view>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "kernels/kernels.h"

namespace ffcv {

#if defined(__x86_64__)
namespace v2 {
extern const KernelTable table;
}
namespace v3 {
extern const KernelTable table;
}
namespace v4 {
extern const KernelTable table;
}
namespace v4_vnni {
extern const KernelTable table;
}
#else
namespace baseline {
extern const KernelTable table;
}
#endif

namespace {

#if defined(__x86_64__)
// What x86-64-v3 has beside AVX2, FMA and BMI. Not all compilers know these names in __builtin_cpu_supports.
bool has_lzcnt_movbe_f16c() {
    unsigned a, b, basic, extended, d;
    if (!__get_cpuid(1, &a, &b, &basic, &d) || !__get_cpuid(0x80000001u, &a, &b, &extended, &d)) return false;
    constexpr unsigned movbe = 1u << 22, f16c = 1u << 29, lzcnt = 1u << 5;
    return (basic & movbe) != 0 && (basic & f16c) != 0 && (extended & lzcnt) != 0;
}
#endif

const KernelTable* find(std::string_view isa) {
#if defined(__x86_64__)
    const bool has_v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && has_lzcnt_movbe_f16c();
    const bool has_v4 = has_v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl");
    const bool has_vnni = has_v4 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
    if (has_vnni && (isa == "v4_vnni" || isa.empty())) return &v4_vnni::table;
    if (has_v4 && (isa == "v4" || isa.empty())) return &v4::table;
    if (has_v3 && (isa == "v3" || isa.empty())) return &v3::table;
    if (isa == "v2" || isa.empty()) return &v2::table;
#else
    if (isa == "baseline" || isa.empty()) return &baseline::table;
#endif
    return nullptr;
}

std::atomic<const KernelTable*> selected{nullptr};

}  // namespace

const KernelTable& kernels() {
    const KernelTable* table = selected.load(std::memory_order_relaxed);
    if (table == nullptr) selected = table = find("");
    return *table;
}

bool select_kernels(const char* isa) {
    const KernelTable* const table = find(isa);
    if (table != nullptr) selected = table;
    return table != nullptr;
}

}  // namespace ffcv
