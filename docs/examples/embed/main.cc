// Sluice inside another program: embed MODEL.gguf "a prompt" prints what the model says.
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <utility>
#include <variant>
#include <vector>

#include "sluice/create.h"

// Events come from the engine's thread; this one prints them there.
class Printer : public sluice::EventQueue {
 public:
  void Publish(std::vector<sluice::StreamEvent> events) override {
    for (const sluice::StreamEvent& event : events) {
      if (const auto* token = std::get_if<sluice::TokenEvent>(&event.event)) {
        std::fputs(token->content.Reveal().c_str(), stdout);
      } else if (const auto* end = std::get_if<sluice::End>(&event.event)) {
        const std::lock_guard lock(mutex_);
        status_ = end->status;
        ended_ = true;
        wake_.notify_one();
      }
    }
  }
  absl::Status Wait() {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return ended_; });
    return status_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  absl::Status status_;
  bool ended_ = false;
};

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: embed MODEL.gguf PROMPT\n");
    return 2;
  }
  sluice::Config config;
  config.model = argv[1];
  config.kv_cache_mib = 64;
  auto service = sluice::CreateService(config);
  if (!service.ok()) {
    std::fprintf(stderr, "%s\n", service.status().ToString().c_str());
    return 1;
  }
  sluice::GenerateRequest request;
  request.model = "default";
  request.prompt = sluice::Text(argv[2]);
  request.sampling.temperature = 0;
  request.sampling.max_tokens = 16;
  Printer printer;
  (*service)->Generate(std::move(request), &printer, 0);
  const absl::Status status = printer.Wait();
  std::puts("");
  return status.ok() ? 0 : 1;
}
