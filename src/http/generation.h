// One call of Service::Generate or Embed on behalf of one HTTP request.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/clock.h"
#include "http/openai_response.h"
#include "http/stream_sink.h"
#include "net/wire.h"
#include "sluice/service.h"

namespace sluice {

// Collects the events; a streamed answer also goes out from here, chunk by chunk, without the
// coroutine, which sleeps until the end. I/O thread only.
class Generation final : public StreamSink {
 public:
  struct Options {
    AnswerFacts facts;  // model and prompt_tokens come with Accepted
    bool stream = false;
    bool chunked = true;      // HTTP/1.1; else the end of the connection ends the answer
    std::string stream_head;  // the response's head without its last line; used with `stream`
  };
  Generation(Options options, Service* service, Wire* wire, const Clock* clock)
      : options_(std::move(options)), service_(service), wire_(wire), clock_(clock) {}

  // The call is on its way.
  void Started(CallId call) { call_ = call; }

  void Push(StreamEvent& event) override;
  void Flush(SendBatch* batch) override;
  void Cancel() override;
  // Cancels because of the server, not the client, who is told so.
  void CancelBecause(absl::Status why);

  [[nodiscard]] bool ended() const { return end_.has_value(); }
  // Whether the response's head is out, so that an error can only be told in the stream.
  [[nodiscard]] bool head_sent() const { return head_sent_; }
  // Whether everything that belongs to the stream has been handed to the wire.
  [[nodiscard]] bool written() const { return end_written_; }
  [[nodiscard]] const End& end() const { return *end_; }
  [[nodiscard]] const std::optional<Accepted>& accepted() const { return accepted_; }
  [[nodiscard]] absl::Time first_token_time() const { return first_token_time_; }
  // Of a call of Embed, once it has ended.
  [[nodiscard]] std::vector<VectorEvent> TakeVectors() { return std::move(vectors_); }
  // With an end that is OK.
  [[nodiscard]] std::string WholeJson() const { return whole_.Json(end_->usage); }

 private:
  void OnAccepted(Accepted accepted);
  void AppendChunk(std::string_view payload);

  Options options_;
  Service* const service_;
  Wire* const wire_;
  const Clock* const clock_;
  CallId call_ = 0;
  bool cancelled_ = false;
  absl::Status why_cancelled_;  // not OK: the server's reason
  StreamedAnswer streamed_;
  WholeAnswer whole_;
  std::vector<VectorEvent> vectors_;
  std::optional<Accepted> accepted_;
  std::optional<End> end_;
  absl::Time first_token_time_ = absl::InfiniteFuture();
  bool head_sent_ = false;
  bool end_written_ = false;
};

}  // namespace sluice
