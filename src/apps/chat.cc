#include "apps/chat.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/mutex.h"
#include "sluice/create.h"

namespace sluice {
namespace {

volatile std::sig_atomic_t interrupted = 0;  // set by the handler, which may touch nothing else

class BlockingQueue final : public EventQueue {
 public:
  void Publish(std::vector<StreamEvent> events) override {
    {
      const MutexLock lock(mutex_);
      for (StreamEvent& event : events) events_.push_back(std::move(event));
    }
    wake_.notify_one();
  }
  // Everything there is, or nothing after a moment: the caller looks for Ctrl-C in between.
  std::vector<StreamEvent> Take() {
    std::unique_lock<Mutex> lock(mutex_);
    wake_.wait_for(lock, std::chrono::milliseconds(50),
                   [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !events_.empty(); });
    return std::exchange(events_, {});
  }

 private:
  Mutex mutex_;
  CondVar wake_;
  std::vector<StreamEvent> events_ ABSL_GUARDED_BY(mutex_);
};

// Streams one answer to the terminal; what was printed is its text.
Text Answer(Service& service, BlockingQueue& queue, std::vector<ChatMessage> messages) {
  interrupted = 0;
  GenerateRequest request;
  request.model = "default";
  request.prompt = std::move(messages);
  const CallId call = service.Generate(std::move(request), &queue, 0);
  Text answer;
  bool cancelled = false;
  while (true) {
    if (interrupted && !std::exchange(cancelled, true)) service.Cancel(call);
    for (const StreamEvent& event : queue.Take()) {
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
  auto service = CreateService(config);
  if (!service.ok()) {
    fmt::print(stderr, "sluice: {}\n", std::string(service.status().message()));
    return 1;
  }
  struct sigaction action{};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);  // without SA_RESTART: a read at the prompt returns
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal)
    fmt::print(
        "Chatting with {}. Ctrl-C stops an answer; Ctrl-D or /exit leaves; /new starts over.\n",
        (*service)->ListModels().front().id);
  BlockingQueue queue;
  std::vector<ChatMessage> messages;
  std::string line;
  while (true) {
    if (terminal) fmt::print("> ");
    std::fflush(stdout);
    if (!std::getline(std::cin, line)) {
      if (!interrupted) break;
      interrupted = 0;  // Ctrl-C at the prompt: a new line
      std::cin.clear();
      std::clearerr(stdin);
      fmt::print("\n");
      continue;
    }
    if (line == "/exit") break;
    if (line == "/new") messages.clear();
    if (line.empty() || line == "/new") continue;
    messages.push_back({"user", Text(line)});
    messages.push_back({"assistant", Answer(**service, queue, messages)});
  }
  if (terminal) fmt::print("\n");
  return 0;
}

}  // namespace sluice
