#include "base/api_keys.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <map>
#include <optional>

#include "base/errors.h"
#include "base/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kMaxFileBytes = 1U << 20U;
constexpr size_t kMaxKeys = 4096;      // every call is compared with each of them
constexpr size_t kMaxNameBytes = 64;   // of a key or a tenant
constexpr size_t kMaxKeyBytes = 1024;  // of a key that a client shows

using Digest = std::array<unsigned char, 32>;

// Closes a file descriptor.
class File {
 public:
  explicit File(int fd) : fd_(fd) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

absl::Status FileError(const std::string& path, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("api keys file {}: {}", path, what));
}

absl::Status LineError(const std::string& path, size_t line, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("api keys file {}:{}: {}", path, line, what));
}

// The whole file. O_NONBLOCK: opening a pipe that nobody writes must not hang the server.
absl::StatusOr<std::string> ReadKeysFile(const std::string& path) {
  const File file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.fd() < 0) {
    const int error = errno;
    const std::string message = fmt::format("api keys file {}: {}", path, std::strerror(error));
    return error == ENOENT ? absl::NotFoundError(message) : absl::InvalidArgumentError(message);
  }
  struct stat info{};
  if (fstat(file.fd(), &info) != 0) return FileError(path, std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return FileError(path, "is not a regular file");
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t n = read(file.fd(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError(path, std::strerror(errno));
    if (n == 0) return text;
    text.append(buffer, static_cast<size_t>(n));
    if (text.size() > kMaxFileBytes) {
      return FileError(path, fmt::format("is larger than {} bytes", kMaxFileBytes));
    }
  }
}

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

// Up to four blank-separated words; the fourth tells that there are too many. A '#' ends the line.
std::vector<std::string_view> Words(std::string_view line) {
  line = line.substr(0, line.find('#'));
  std::vector<std::string_view> words;
  size_t i = 0;
  while (i < line.size() && words.size() < 4) {
    while (i < line.size() && IsBlank(line[i])) ++i;
    const size_t begin = i;
    while (i < line.size() && !IsBlank(line[i])) ++i;
    if (i > begin) words.push_back(line.substr(begin, i - begin));
  }
  return words;
}

// Names go into logs and cache salts: letters, digits, '.', '_', '-', '@'.
bool IsName(std::string_view word) {
  if (word.empty() || word.size() > kMaxNameBytes) return false;
  for (const char c : word) {
    const bool alphanumeric =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!alphanumeric && c != '.' && c != '_' && c != '-' && c != '@') return false;
  }
  return true;
}

std::optional<unsigned> HexDigit(char c) {
  if (c >= '0' && c <= '9') return static_cast<unsigned>(c - '0');
  if (c >= 'a' && c <= 'f') return static_cast<unsigned>(c - 'a') + 10;
  if (c >= 'A' && c <= 'F') return static_cast<unsigned>(c - 'A') + 10;
  return std::nullopt;
}

std::optional<Digest> ParseDigest(std::string_view hex) {
  Digest digest{};
  if (hex.size() != 2 * digest.size()) return std::nullopt;
  for (size_t i = 0; i < digest.size(); ++i) {
    const auto high = HexDigit(hex[2 * i]);
    const auto low = HexDigit(hex[2 * i + 1]);
    if (!high || !low) return std::nullopt;
    digest[i] = static_cast<unsigned char>(*high << 4U | *low);
  }
  return digest;
}

absl::Status Refuse(std::string_view message, std::string_view code) {
  return WithErrorCode(absl::UnauthenticatedError(std::string(message)), code);
}

// The key of "Bearer KEY"; the scheme's case does not matter (RFC 9110, 11.1).
absl::StatusOr<std::string_view> BearerKey(std::string_view authorization) {
  if (authorization.empty()) {
    return Refuse("an API key is needed: send \"authorization: Bearer KEY\"", "missing_api_key");
  }
  constexpr std::string_view kScheme = "bearer ";
  bool bearer = authorization.size() > kScheme.size();
  for (size_t i = 0; bearer && i < kScheme.size(); ++i) {
    bearer = std::tolower(static_cast<unsigned char>(authorization[i])) == kScheme[i];
  }
  if (bearer) {
    authorization.remove_prefix(kScheme.size());
    while (!authorization.empty() && authorization.front() == ' ') authorization.remove_prefix(1);
    while (!authorization.empty() && authorization.back() == ' ') authorization.remove_suffix(1);
  }
  if (!bearer || authorization.empty()) {
    return Refuse("the authorization is malformed: it is \"Bearer KEY\"", "invalid_api_key");
  }
  if (authorization.size() > kMaxKeyBytes) {
    return Refuse(fmt::format("the API key is longer than {} bytes", kMaxKeyBytes),
                  "invalid_api_key");
  }
  return authorization;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ApiKeys>> ApiKeys::Load(std::string path) {
  std::unique_ptr<ApiKeys> keys(new ApiKeys(std::move(path)));
  RETURN_IF_ERROR(keys->Reload());
  return keys;
}

absl::Status ApiKeys::Reload() {
  if (!required()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string text, ReadKeysFile(path_));
  std::vector<Entry> entries;
  std::map<std::string, size_t, std::less<>> line_of_name;
  std::map<Digest, size_t> line_of_digest;
  std::string_view rest = text;
  for (size_t line = 1; !rest.empty(); ++line) {
    const size_t end = rest.find('\n');
    const std::vector<std::string_view> words = Words(rest.substr(0, end));
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    if (words.empty()) continue;
    // No message repeats a word of the line: someone may have put the key itself there.
    if (words.size() != 3) return LineError(path_, line, "a line is \"name sha256-hex tenant\"");
    const auto digest = ParseDigest(words[1]);
    if (!digest)
      return LineError(path_, line, "the second word is not a SHA-256 of 64 hexadecimal digits");
    if (!IsName(words[0]) || !IsName(words[2])) {
      return LineError(
          path_, line,
          fmt::format("name and tenant are 1 to {} letters, digits, '.', '_', '-' or '@'",
                      kMaxNameBytes));
    }
    const auto [name, new_name] = line_of_name.emplace(words[0], line);
    if (!new_name)
      return LineError(path_, line, fmt::format("the name is the one of line {}", name->second));
    const auto [hash, new_hash] = line_of_digest.emplace(*digest, line);
    if (!new_hash)
      return LineError(path_, line, fmt::format("the key is the one of line {}", hash->second));
    if (entries.size() == kMaxKeys)
      return LineError(path_, line, fmt::format("there are more than {} keys", kMaxKeys));
    entries.push_back({*digest, {std::string(words[0]), std::string(words[2])}});
  }
  // Also what a reader sees while an editor has truncated the file.
  if (entries.empty()) return FileError(path_, "has no keys");
  const MutexLock lock(mutex_);
  entries_ = std::move(entries);
  return absl::OkStatus();
}

absl::StatusOr<Identity> ApiKeys::Authenticate(std::string_view authorization) const {
  if (!required()) return Identity{"anonymous", "default"};
  ASSIGN_OR_RETURN(const std::string_view key, BearerKey(authorization));
  Digest digest{};
  unsigned size = 0;
  if (EVP_Digest(key.data(), key.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1 ||
      size != digest.size()) {
    return absl::InternalError("SHA-256 failed");
  }
  const MutexLock lock(mutex_);
  const Entry* found = nullptr;
  for (const Entry& entry :
       entries_) {  // no early end: the time must not tell which key came close
    if (CRYPTO_memcmp(entry.sha256.data(), digest.data(), digest.size()) == 0) found = &entry;
  }
  if (found == nullptr) return Refuse("the API key is not known", "invalid_api_key");
  return found->identity;
}

}  // namespace sluice
