// API keys: who may call, and as which tenant. Thread-safe.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/mutex.h"

namespace sluice {

struct Identity {
  std::string name;    // the key's name, never the key; "anonymous" where no keys are asked
  std::string tenant;  // "default" where no keys are asked
};

// The file: one key a line, "name sha256-hex tenant" separated by blanks; '#' starts a comment.
// Keys themselves are never stored, logged or printed.
class ApiKeys {
 public:
  // path empty: every caller is anonymous. Errors: NotFound, InvalidArgument with file, line and
  // what is wrong.
  static absl::StatusOr<std::unique_ptr<ApiKeys>> Load(std::string path);

  // Reads the file again; on error the old keys stay.
  absl::Status Reload();

  // `authorization`: the whole header or metadata value, "Bearer KEY". Compares against every key
  // in constant time. Errors: Unauthenticated (missing, malformed, unknown), never with the key in
  // the message.
  [[nodiscard]] absl::StatusOr<Identity> Authenticate(std::string_view authorization) const;

  [[nodiscard]] bool required() const { return !path_.empty(); }

 private:
  struct Entry {
    std::array<unsigned char, 32> sha256;
    Identity identity;
  };
  explicit ApiKeys(std::string path) : path_(std::move(path)) {}

  const std::string path_;
  mutable Mutex mutex_;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace sluice
