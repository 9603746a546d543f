// Reads HTTP/1.1 answers and server-sent events from bytes in pieces of any size.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::load {

// What went wrong with an answer, as a short name that results count by; "" for nothing.
using ErrorKind = std::string;

// One answer after the other. Holds at most a head of 64 KiB.
class HttpResponseReader {
 public:
  // Takes `bytes` until the answer has ended; gives the body's bytes to `body(std::string_view)`.
  // Returns how many bytes were taken. After an error nothing more is taken.
  template <typename Body>
  size_t Feed(std::string_view bytes, Body&& body) {
    size_t at = 0;
    while (at < bytes.size() && !done() && error_.empty()) {
      const std::string_view rest = bytes.substr(at);
      if (state_ == State::kHead) {
        at += TakeHead(rest);
      } else if (state_ == State::kChunkSize || state_ == State::kTrailer) {
        at += TakeLine(rest);
      } else if (state_ == State::kChunkEnd) {
        at += TakeChunkEnd(rest);
      } else {
        const std::string_view part =
            rest.substr(0, left_ < 0 ? rest.size() : static_cast<size_t>(left_));
        body(part);
        at += part.size();
        TakeBody(part.size());
      }
    }
    return at;
  }
  // The peer has closed. True if that ends the answer as it should.
  bool Close();
  // Ready for the next answer.
  void Reset();

  [[nodiscard]] bool head_seen() const { return state_ != State::kHead; }
  [[nodiscard]] bool begun() const { return head_seen() || !line_.empty(); }
  [[nodiscard]] bool done() const { return state_ == State::kDone; }
  [[nodiscard]] int status() const { return status_; }
  [[nodiscard]] bool keep_alive() const { return keep_alive_; }
  // malformed_http or head_too_large.
  [[nodiscard]] const ErrorKind& error() const { return error_; }

 private:
  enum class State { kHead, kFixed, kChunkSize, kChunk, kChunkEnd, kTrailer, kDone };

  size_t TakeHead(std::string_view bytes);
  size_t TakeLine(std::string_view bytes);
  size_t TakeChunkEnd(std::string_view bytes);
  void TakeBody(size_t size);
  void ReadHead(std::string_view head);
  void ReadHeader(std::string_view name, std::string_view value);
  void ReadChunkSize(std::string_view line);

  State state_ = State::kHead;
  std::string line_;   // the head or a line, as far as it came
  int64_t left_ = -1;  // bytes to come of the body or chunk; -1: until the peer closes
  bool chunked_ = false;
  bool keep_alive_ = true;
  int status_ = 0;
  ErrorKind error_;
};

// The `data:` lines of an event stream. An event is one line here, as every OpenAI-compatible
// server writes it. Holds at most one line, of up to kMaxLine bytes.
class SseReader {
 public:
  static constexpr size_t kMaxLine = 1 << 20;

  // Calls `event(std::string_view)` for each whole data line. False once a line was too long.
  template <typename Event>
  bool Feed(std::string_view bytes, Event&& event) {
    while (!bytes.empty()) {
      const size_t end = bytes.find('\n');
      if (end == std::string_view::npos) {
        if (partial_.size() + bytes.size() > kMaxLine) return false;
        partial_.append(bytes);
        return true;
      }
      if (partial_.empty()) {
        Line(bytes.substr(0, end), event);
      } else {
        if (partial_.size() + end > kMaxLine) return false;
        partial_.append(bytes.substr(0, end));
        Line(partial_, event);
        partial_.clear();
      }
      bytes.remove_prefix(end + 1);
    }
    return true;
  }
  void Reset() { partial_.clear(); }

 private:
  template <typename Event>
  static void Line(std::string_view line, Event&& event) {
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (!line.starts_with("data:")) return;
    line.remove_prefix(line.size() > 5 && line[5] == ' ' ? 6 : 5);
    event(line);
  }
  std::string partial_;
};

// Counts lines that begin with `data:` in the raw bytes of a connection, knowing nothing of HTTP:
// the witness that the readers above lose and invent none. Blind only where a transport chunk
// begins inside a line's first five bytes.
class DataLineCounter {
 public:
  // Returns how many were completed by `bytes`.
  int64_t Feed(std::string_view bytes);

 private:
  size_t matched_ = 0;  // of "\ndata:"
};

}  // namespace sluice::load
