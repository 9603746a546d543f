#include "kernels/cuda/library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <string>

#include "absl/status/status.h"

namespace sluice::cuda {

absl::StatusOr<FindFunction> OpenLibrary(const std::string& file) {
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    const char* const reason = dlerror();
    return absl::NotFoundError(
        fmt::format("{} cannot be opened: {}", file, reason == nullptr ? "no reason" : reason));
  }
  return [library](const char* name) { return dlsym(library, name); };
}

}  // namespace sluice::cuda
