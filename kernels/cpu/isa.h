// Which instruction set the CPU kernels use. All forms give equal bits; they differ only in speed.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace sluice {

enum class CpuIsa : uint8_t { kScalar, kAvx2, kAvx512 };

[[nodiscard]] std::string_view CpuIsaName(CpuIsa isa);

// Whether this CPU and its operating system can run the form. kAvx512 needs F, BW, VL, DQ and VNNI;
// kAvx2 needs AVX2, FMA and F16C.
[[nodiscard]] bool CpuSupports(CpuIsa isa);

// The fastest form this CPU can run.
[[nodiscard]] CpuIsa BestCpuIsa();

// "auto", "avx512", "avx2" or "scalar". Errors: InvalidArgument for another word;
// FailedPrecondition, naming what is missing, if the CPU cannot run the form.
absl::StatusOr<CpuIsa> ParseCpuIsa(std::string_view text);

}  // namespace sluice
