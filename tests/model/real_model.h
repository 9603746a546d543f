// Where the tests find the real model (SmolLM2-135M-Instruct, Q4_1).
#pragma once

#include <cstdlib>
#include <string>

namespace sluice {

// SLUICE_MODEL, or the copy in the cache folder that ./dev keeps. A file that is not there fails
// the test that opens it.
inline std::string RealModelPath() {
  if (const char* path = std::getenv("SLUICE_MODEL")) return path;
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string folder =
      cache != nullptr ? cache : std::string(home != nullptr ? home : "") + "/.cache";
  return folder + "/sluice/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

}  // namespace sluice
