#include "kernels/cpu/isa.h"

#include <fmt/format.h>

#include <string>

namespace sluice {
namespace {

// The features `isa` needs and this CPU lacks, separated by spaces; empty: none. libgcc's detection
// also asks the operating system (XGETBV) whether it saves the wide registers.
std::string MissingFeatures(CpuIsa isa) {
  std::string missing;
#if defined(__x86_64__)
  const auto need = [&missing](bool has, const char* name) {
    if (!has) missing += missing.empty() ? name : std::string(" ") + name;
  };
  __builtin_cpu_init();
  if (isa == CpuIsa::kAvx2 || isa == CpuIsa::kAvx512) {
    need(__builtin_cpu_supports("avx2"), "AVX2");
    need(__builtin_cpu_supports("fma"), "FMA");
    need(__builtin_cpu_supports("f16c"), "F16C");
  }
  if (isa == CpuIsa::kAvx512) {
    need(__builtin_cpu_supports("avx512f"), "AVX512F");
    need(__builtin_cpu_supports("avx512bw"), "AVX512BW");
    need(__builtin_cpu_supports("avx512vl"), "AVX512VL");
    need(__builtin_cpu_supports("avx512dq"), "AVX512DQ");
    need(__builtin_cpu_supports("avx512vnni"), "AVX512_VNNI");
  }
#else
  if (isa != CpuIsa::kScalar) missing = "x86-64";
#endif
  return missing;
}

}  // namespace

std::string_view CpuIsaName(CpuIsa isa) {
  constexpr std::string_view kNames[] = {"scalar", "avx2", "avx512"};
  return kNames[static_cast<int>(isa)];
}

bool CpuSupports(CpuIsa isa) { return MissingFeatures(isa).empty(); }

CpuIsa BestCpuIsa() {
  if (CpuSupports(CpuIsa::kAvx512)) return CpuIsa::kAvx512;
  return CpuSupports(CpuIsa::kAvx2) ? CpuIsa::kAvx2 : CpuIsa::kScalar;
}

absl::StatusOr<CpuIsa> ParseCpuIsa(std::string_view text) {
  if (text == "auto") return BestCpuIsa();
  for (const CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (text != CpuIsaName(isa)) continue;
    const std::string missing = MissingFeatures(isa);
    if (missing.empty()) return isa;
    return absl::FailedPreconditionError(
        fmt::format("cpu-isa {} cannot run on this CPU; it lacks {}", text, missing));
  }
  return absl::InvalidArgumentError(
      fmt::format("cpu-isa is \"{}\"; it must be auto, avx512, avx2 or scalar", text));
}

}  // namespace sluice
