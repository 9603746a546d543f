// Functions of shared libraries that are opened at run time, so that the program starts where they
// are absent, and that tests replace.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace sluice::cuda {

// The function of this name; null if there is none.
using FindFunction = std::function<void*(const char* name)>;

// Opens a shared library for as long as the process lives, its names hidden from others.
// Errors: NotFound, with the loader's reason.
absl::StatusOr<FindFunction> OpenLibrary(const std::string& file);

// Fills one entry of a table of functions. False: there is no such function.
template <class F>
bool FindInto(const FindFunction& find, const char* name, F*& function) {
  function = reinterpret_cast<F*>(find(name));
  return function != nullptr;
}

}  // namespace sluice::cuda
