// Where the tests find the real models: SmolLM2-135M-Instruct, Q4_1, and Gemma3-270M, Q4_K_M.
#pragma once

#include <cstdlib>
#include <string>

namespace sluice {

// A model in the cache folder that ./dev keeps.
inline std::string CachedModelPath(const std::string& name) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::string folder =
      cache != nullptr ? cache : std::string(home != nullptr ? home : "") + "/.cache";
  return folder + "/sluice/models/" + name;
}

// SLUICE_MODEL, or the cached copy. A file that is not there fails the test that opens it.
inline std::string RealModelPath() {
  if (const char* path = std::getenv("SLUICE_MODEL")) return path;
  return CachedModelPath("SmolLM2-135M-Instruct.Q4_1.gguf");
}

// SLUICE_GEMMA3, or the cached copy.
inline std::string Gemma3Path() {
  if (const char* path = std::getenv("SLUICE_GEMMA3")) return path;
  return CachedModelPath("gemma-3-270m-Q4_K_M.gguf");
}

}  // namespace sluice
