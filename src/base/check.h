// CHECK: our own broken invariants only, never the outside world. The message carries the values.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace sluice {

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition,
                                     const std::string& message) {
  std::fputs(fmt::format("{}:{}: CHECK({}) failed: {}\n", file, line, condition, message).c_str(),
             stderr);
  std::abort();
}

}  // namespace sluice

#define SLUICE_CHECK(condition, ...)                                                        \
  do {                                                                                      \
    if (!(condition)) {                                                                     \
      ::sluice::CheckFailed(__FILE__, __LINE__, #condition, ::fmt::format("" __VA_ARGS__)); \
    }                                                                                       \
  } while (0)
