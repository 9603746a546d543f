#include "apps/chat.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "apps/blocking_queue.h"
#include "apps/pending_signals.h"
#include "sluice/create.h"

namespace sluice {
namespace {

// Lines of standard input, or the news that Ctrl-C came instead.
class LineReader {
 public:
  enum class Result : uint8_t { kLine, kInterrupted, kEnd };

  explicit LineReader(const PendingSignals& interrupts) : interrupts_(interrupts) {}

  Result Next(std::string* line) {
    while (true) {
      const size_t end = buffer_.find('\n');
      if (end != std::string::npos || (at_end_ && !buffer_.empty())) {
        *line = buffer_.substr(0, end);
        buffer_.erase(0, end == std::string::npos ? end : end + 1);
        return Result::kLine;
      }
      if (at_end_) return Result::kEnd;
      pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {interrupts_.fd(), POLLIN, 0}};
      if (poll(fds, 2, -1) < 0) continue;
      if (interrupts_.Take()) return Result::kInterrupted;
      if (fds[0].revents == 0) continue;
      char bytes[4096];
      const ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
      if (n <= 0) at_end_ = true;
      if (n > 0) buffer_.append(bytes, static_cast<size_t>(n));
    }
  }

 private:
  const PendingSignals& interrupts_;
  std::string buffer_;
  bool at_end_ = false;
};

std::vector<StreamEvent> TakeEvents(BlockingQueue& queue) {
  std::vector<StreamEvent> events;
  for (BlockingQueue::Batch& batch : queue.Take(std::chrono::milliseconds(50)))
    std::ranges::move(batch.events, std::back_inserter(events));
  return events;
}

// Streams one answer to the terminal; what was printed is its text.
Text Answer(Service& service, BlockingQueue& queue, const PendingSignals& interrupts,
            std::vector<ChatMessage> messages) {
  GenerateRequest request;
  request.model = "default";
  request.prompt = std::move(messages);
  const CallId call = service.Generate(std::move(request), &queue, 0);
  Text answer;
  bool cancelled = false;
  while (true) {
    if (interrupts.Take() && !std::exchange(cancelled, true)) service.Cancel(call);
    for (const StreamEvent& event : TakeEvents(queue)) {
      if (const auto* token = std::get_if<TokenEvent>(&event.event)) {
        answer.Append(token->content);
        std::fputs(token->content.Reveal().c_str(), stdout);
        std::fflush(stdout);
      } else if (const auto* end = std::get_if<End>(&event.event)) {
        if (absl::IsCancelled(end->status)) {
          fmt::print(" [cancelled]");
        } else if (!end->status.ok()) {
          fmt::print(stderr, "error: {}", std::string(end->status.message()));
        }
        fmt::print("\n");
        return answer;
      }
    }
  }
}

}  // namespace

int Chat(const Config& config) {
  const PendingSignals interrupts{SIGINT};
  auto service = CreateService(config);
  if (!service.ok()) {
    fmt::print(stderr, "sluice: {}\n", std::string(service.status().message()));
    return 1;
  }
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal) {
    fmt::print(
        "Chatting with {}. Ctrl-C stops an answer; Ctrl-D or /exit leaves; /new starts over.\n",
        (*service)->ListModels().front().id);
  }
  BlockingQueue queue;
  LineReader reader(interrupts);
  std::vector<ChatMessage> messages;
  std::string line;
  while (true) {
    if (terminal) fmt::print("> ");
    std::fflush(stdout);
    const LineReader::Result result = reader.Next(&line);
    if (result == LineReader::Result::kEnd || line == "/exit") break;
    if (result == LineReader::Result::kInterrupted) {
      fmt::print("\n");
      continue;
    }
    if (line == "/new") messages.clear();
    if (line.empty() || line == "/new") continue;
    messages.push_back({"user", Text(line)});
    messages.push_back({"assistant", Answer(**service, queue, interrupts, messages)});
  }
  if (terminal) fmt::print("\n");
  return 0;
}

}  // namespace sluice
