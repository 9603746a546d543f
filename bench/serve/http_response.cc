#include "bench/serve/http_response.h"

#include <algorithm>
#include <cstring>

#include "bench/serve/text.h"

namespace sluice::load {
namespace {

constexpr size_t kMaxHead = 64 << 10;
constexpr size_t kMaxChunkLine = 1024;
constexpr std::string_view kMalformed = "malformed_http";

}  // namespace

void HttpResponseReader::Reset() {
  state_ = State::kHead;
  line_.clear();
  left_ = -1;
  chunked_ = false;
  keep_alive_ = true;
  status_ = 0;
  error_.clear();
}

bool HttpResponseReader::Close() {
  if (state_ == State::kFixed && left_ < 0) state_ = State::kDone;
  keep_alive_ = false;
  return state_ == State::kDone;
}

size_t HttpResponseReader::TakeHead(std::string_view bytes) {
  const size_t had = line_.size();
  line_.append(bytes.substr(0, kMaxHead + 4 - std::min(had, kMaxHead)));
  // A head that does not begin like one need not be waited for.
  constexpr std::string_view kBegin = "HTTP/1.";
  if (line_.compare(0, kBegin.size(), kBegin.substr(0, line_.size())) != 0) {
    error_ = kMalformed;
    return 0;
  }
  const size_t end = line_.find("\r\n\r\n", had < 3 ? 0 : had - 3);
  if (end == std::string::npos) {
    if (line_.size() > kMaxHead) error_ = "head_too_large";
    return bytes.size();
  }
  const size_t taken = end + 4 - had;
  const std::string head = line_.substr(0, end + 2);
  line_.clear();
  ReadHead(head);
  return taken;
}

void HttpResponseReader::ReadHead(std::string_view head) {
  // HTTP/1.1 200 ...
  status_ = head.size() < 12 ? 0 : ParseNumber<int>(head.substr(9, 3)).value_or(0);
  if (status_ < 100) {
    error_ = kMalformed;
    return;
  }
  keep_alive_ = head[7] == '1';
  size_t at = head.find("\r\n") + 2;
  while (at < head.size()) {
    const size_t end = head.find("\r\n", at);
    const std::string_view line = head.substr(at, end - at);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) {
      error_ = kMalformed;
      return;
    }
    ReadHeader(line.substr(0, colon), Strip(line.substr(colon + 1)));
    at = end + 2;
  }
  if (status_ < 200) {  // 100 Continue: the real answer follows
    Reset();
    return;
  }
  if (status_ == 204 || status_ == 304) left_ = 0;
  if (chunked_) {
    state_ = State::kChunkSize;
  } else {
    state_ = left_ == 0 ? State::kDone : State::kFixed;
  }
}

void HttpResponseReader::ReadHeader(std::string_view name, std::string_view value) {
  if (EqualsIgnoringCase(name, "content-length")) {
    left_ = ParseNumber<int64_t>(value).value_or(-1);
    if (left_ < 0) error_ = kMalformed;
  } else if (EqualsIgnoringCase(name, "transfer-encoding")) {
    chunked_ = EqualsIgnoringCase(value, "chunked");
    if (!chunked_) error_ = kMalformed;
  } else if (EqualsIgnoringCase(name, "connection")) {
    if (EqualsIgnoringCase(value, "close")) keep_alive_ = false;
    if (EqualsIgnoringCase(value, "keep-alive")) keep_alive_ = true;
  }
}

size_t HttpResponseReader::TakeLine(std::string_view bytes) {
  const size_t end = bytes.find('\n');
  const size_t taken = end == std::string_view::npos ? bytes.size() : end + 1;
  if (line_.size() + taken > kMaxChunkLine) {
    error_ = kMalformed;
    return 0;
  }
  line_.append(bytes.substr(0, taken));
  if (end == std::string_view::npos) return taken;
  const std::string_view line = Strip(line_);
  if (state_ == State::kTrailer) {
    if (line.empty()) state_ = State::kDone;
  } else {
    ReadChunkSize(line);
  }
  line_.clear();
  return taken;
}

void HttpResponseReader::ReadChunkSize(std::string_view line) {
  constexpr int64_t kMaxChunk = int64_t{1} << 40;
  left_ = ParseNumber<int64_t>(Strip(line.substr(0, line.find(';'))), 16).value_or(-1);
  if (left_ < 0 || left_ > kMaxChunk) {
    error_ = kMalformed;
    return;
  }
  state_ = left_ == 0 ? State::kTrailer : State::kChunk;
}

size_t HttpResponseReader::TakeChunkEnd(std::string_view bytes) {
  if (bytes.front() == '\r') return 1;
  if (bytes.front() != '\n') {
    error_ = kMalformed;
    return 0;
  }
  state_ = State::kChunkSize;
  return 1;
}

void HttpResponseReader::TakeBody(size_t size) {
  if (left_ < 0) return;
  left_ -= static_cast<int64_t>(size);
  if (left_ > 0) return;
  state_ = state_ == State::kChunk ? State::kChunkEnd : State::kDone;
}

int64_t DataLineCounter::Feed(std::string_view bytes) {
  constexpr std::string_view kNeedle = "\ndata:";
  int64_t count = 0;
  size_t at = 0;
  while (at < bytes.size()) {
    if (matched_ == 0) {
      const void* found = std::memchr(bytes.data() + at, '\n', bytes.size() - at);
      if (found == nullptr) return count;
      at = static_cast<size_t>(static_cast<const char*>(found) - bytes.data()) + 1;
      matched_ = 1;
    } else if (bytes[at] == kNeedle[matched_]) {
      ++at;
      if (++matched_ < kNeedle.size()) continue;
      ++count;
      matched_ = 0;
    } else {
      matched_ = 0;
    }
  }
  return count;
}

}  // namespace sluice::load
