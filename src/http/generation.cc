#include "http/generation.h"

#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "http/response.h"

namespace sluice {

void Generation::Push(StreamEvent& event) {
  if (auto* token = std::get_if<TokenEvent>(&event.event)) {
    if (first_token_time_ == absl::InfiniteFuture()) first_token_time_ = clock_->Now();
    if (options_.stream) {
      streamed_.Add(*token);
    } else {
      whole_.Add(*token);
    }
  } else if (auto* vector = std::get_if<VectorEvent>(&event.event)) {
    vectors_.push_back(std::move(*vector));
  } else if (auto* accepted = std::get_if<Accepted>(&event.event)) {
    OnAccepted(std::move(*accepted));
  } else {
    end_ = std::move(std::get<End>(event.event));
    if (!why_cancelled_.ok() && absl::IsCancelled(end_->status)) end_->status = why_cancelled_;
  }
}

void Generation::OnAccepted(Accepted accepted) {
  accepted_ = std::move(accepted);
  options_.facts.model = accepted_->model;
  options_.facts.prompt_tokens = accepted_->prompt_tokens;
  options_.facts.system_fingerprint = accepted_->system_fingerprint;
  if (options_.stream) {
    streamed_.Start(options_.facts);
  } else {
    whole_.Start(options_.facts);
  }
}

void Generation::Flush(SendBatch* batch) {
  if (options_.stream && accepted_ && !wire_->closed() && !wire_->blocked() && !end_written_) {
    // Reused by all streams of the thread; holds one write.
    static thread_local std::string payload;
    payload.clear();
    if (!std::exchange(head_sent_, true)) {
      AppendHeader("X-Sluice-Seed", fmt::to_string(accepted_->seed), options_.stream_head);
      wire_->Append(options_.stream_head + "\r\n");
      streamed_.AppendOpening(payload);
    }
    streamed_.Take(payload);
    if (end_) {
      end_written_ = true;
      if (end_->status.ok()) {
        streamed_.AppendEnd(end_->usage, payload);
      } else {
        streamed_.AppendError(end_->status, payload);
      }
    }
    AppendChunk(payload);
    if (end_written_ && options_.chunked) wire_->Append("0\r\n\r\n");
    wire_->Flush(batch);
  }
  if (end_) wire_->Wake();
}

void Generation::AppendChunk(std::string_view payload) {
  if (payload.empty()) return;
  if (!options_.chunked) {
    wire_->Append(payload);
    return;
  }
  fmt::memory_buffer size;
  fmt::format_to(std::back_inserter(size), "{:x}\r\n", payload.size());
  wire_->Append({size.data(), size.size()});
  wire_->Append(payload);
  wire_->Append("\r\n");
}

void Generation::CancelBecause(absl::Status why) {
  if (!cancelled_) why_cancelled_ = std::move(why);
  Cancel();
}

void Generation::Cancel() {
  if (!ended() && !std::exchange(cancelled_, true)) service_->Cancel(call_);
}

}  // namespace sluice
