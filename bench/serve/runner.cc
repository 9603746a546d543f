#include "bench/serve/runner.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "bench/serve/epoll.h"
#include "bench/serve/grpc_dialect.h"
#include "bench/serve/grpc_transport.h"
#include "bench/serve/http_transport.h"
#include "bench/serve/monotonic.h"
#include "bench/serve/request_body.h"
#include "bench/serve/server_facts.h"

namespace sluice::load {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kTick = kSecond / 10;        // the longest wait
constexpr int64_t kErrorPause = kSecond / 10;  // of a user whose request failed
constexpr size_t kMaxWaiting = 1'000'000;
constexpr int kEventsAtOnce = 256;  // one clock reading serves so many: about 0.5 ms of work

int64_t ClockNs(clockid_t clock) {
  timespec time{};
  if (clock_gettime(clock, &time) != 0) return -1;
  return time.tv_sec * kSecond + time.tv_nsec;
}
int64_t Nanoseconds(double seconds) { return static_cast<int64_t>(seconds * 1e9); }

CpuSample ReadCpu(int64_t server_pid) {
  CpuSample sample{.time_ns = NowNs(),
                   .harness_s = static_cast<double>(ClockNs(CLOCK_THREAD_CPUTIME_ID)) / 1e9};
  clockid_t clock = 0;
  if (server_pid > 0 && clock_getcpuclockid(static_cast<pid_t>(server_pid), &clock) == 0) {
    const int64_t used = ClockNs(clock);
    if (used >= 0) sample.server_s = static_cast<double>(used) / 1e9;
  }
  return sample;
}

absl::Status AllowFiles(int64_t wanted) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (static_cast<rlim_t>(wanted) <= limit.rlim_max) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "{} open files would be needed, the limit (ulimit -n) is {}", wanted, limit.rlim_max));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  const int fd_;
};

class Runner final : public ExchangeEvents {
 public:
  Runner(const LoadOptions& options, const RunHooks& hooks, const Endpoint& endpoint,
         Arrivals arrivals, PromptSource prompts, RequestEncoder encode, const Script* script)
      : options_(options),
        hooks_(hooks),
        epoll_(epoll_create1(EPOLL_CLOEXEC)),
        arrivals_(std::move(arrivals)),
        prompts_(std::move(prompts)),
        encode_(std::move(encode)),
        script_(script),
        random_(options.seed ^ 0x510) {
    if (options.connection_rate > 0)
      connections_.emplace(options.connection_rate, endpoint, epoll_.get());
  }

  [[nodiscard]] int epoll() const { return epoll_.get(); }
  void Run(std::unique_ptr<Transport> transport, LoadResult& result);

  void OnText(Exchange& exchange, std::string_view text, int64_t now_ns) override {
    measured_->Text(exchange, text, now_ns);
  }
  void OnBytes(int64_t bytes, int64_t data_lines) override { measured_->Bytes(bytes, data_lines); }
  void OnEnd(Exchange& exchange, int64_t now_ns) override;
  void OnPause(int64_t connection, int64_t until_ns) override {
    later_.emplace(until_ns,
                   [this, connection](int64_t now_ns) { transport_->Resume(connection, now_ns); });
  }

 private:
  using Action = std::function<void(int64_t now_ns)>;

  std::unique_ptr<Exchange> Make(Conversation conversation, int user, int64_t scheduled_ns);
  void PrepareNext();
  void StartUser(int user, int64_t now_ns);
  void Launch(std::unique_ptr<Exchange> exchange, int64_t now_ns);
  void RunDue(int64_t now_ns);
  void ExpireTimeouts(int64_t now_ns);
  void GoOn(Exchange& exchange, int64_t now_ns);
  void EndAll(const char* why, int64_t now_ns);
  void Abort(Exchange& exchange, const char* why, int64_t now_ns);
  void SampleWindow(int64_t now_ns, LoadResult& result);
  void Begin(int64_t now_ns);
  void Wait(int64_t now_ns);
  [[nodiscard]] bool MayStart(int64_t now_ns) const {
    return now_ns < stop_ns_ && (options_.requests == 0 || made_ < options_.requests);
  }
  [[nodiscard]] bool RequestsAreOver(int64_t now_ns) const;
  [[nodiscard]] bool IsOver(int64_t now_ns) const;

  const LoadOptions& options_;
  const RunHooks& hooks_;
  const Descriptor epoll_;
  Arrivals arrivals_;
  PromptSource prompts_;
  const RequestEncoder encode_;
  const Script* const script_;
  Random random_;
  std::unique_ptr<Measurement> measured_;
  std::unique_ptr<Transport> transport_;
  std::optional<ConnectionLoad> connections_;  // beside the transport's

  int64_t start_ns_ = 0, stop_ns_ = 0, window_begin_ns_ = 0;
  int64_t made_ = 0;                               // requests, ever
  std::unique_ptr<Exchange> next_;                 // open loop: made before it is due
  std::deque<std::unique_ptr<Exchange>> waiting_;  // due, but no connection is allowed
  std::unordered_map<int64_t, std::unique_ptr<Exchange>> in_flight_;
  std::vector<std::unique_ptr<Exchange>> ended_;      // freed when no transport is on the stack
  std::deque<std::pair<int64_t, int64_t>> timeouts_;  // (time, exchange): all wait equally long
  std::multimap<int64_t, Action> later_;
  int64_t max_waiting_ = 0;
  bool stopped_ = false;
};

std::unique_ptr<Exchange> Runner::Make(Conversation conversation, int user, int64_t scheduled_ns) {
  auto exchange = std::make_unique<Exchange>();
  exchange->id = made_++;
  exchange->conversation = std::move(conversation);
  exchange->user = user;
  exchange->scheduled_ns = scheduled_ns;
  exchange->seed = RequestSeed(options_.seed, exchange->id);
  exchange->slow = options_.slow_fraction > 0 && random_.Uniform() < options_.slow_fraction;
  exchange->keep_answer = !exchange->conversation.later_turns.empty();
  exchange->script = ScriptCursor(script_, exchange->seed);
  exchange->body = encode_(*exchange);
  return exchange;
}

void Runner::PrepareNext() {
  next_.reset();
  if (options_.requests != 0 && made_ >= options_.requests) return;
  const auto at = arrivals_.Next();
  if (!at || start_ns_ + *at >= stop_ns_) return;
  next_ = Make(prompts_.Next(arrivals_.Last()), -1, start_ns_ + *at);
}

void Runner::StartUser(int user, int64_t now_ns) {
  if (!MayStart(now_ns)) return;
  Launch(Make(prompts_.Next(nullptr), user, now_ns), now_ns);
}

void Runner::Launch(std::unique_ptr<Exchange> exchange, int64_t now_ns) {
  if (!transport_->HasRoom()) {
    if (waiting_.size() < kMaxWaiting) waiting_.push_back(std::move(exchange));
    max_waiting_ = std::max(max_waiting_, static_cast<int64_t>(waiting_.size()));
    return;
  }
  Exchange& one = *exchange;
  in_flight_.emplace(one.id, std::move(exchange));
  timeouts_.emplace_back(now_ns + Nanoseconds(options_.timeout_seconds), one.id);
  measured_->Start(one, now_ns);
  transport_->Start(one, now_ns);
}

void Runner::OnEnd(Exchange& exchange, int64_t now_ns) {
  const bool told = exchange.output_tokens >= 0;
  if (script_ != nullptr && exchange.error.empty() && told &&
      exchange.output_tokens != exchange.conversation.max_tokens)
    exchange.error = "wrong_length";
  measured_->End(exchange, now_ns);
  GoOn(exchange, now_ns);
  const auto found = in_flight_.find(exchange.id);
  ended_.push_back(std::move(found->second));
  in_flight_.erase(found);
}

// The next turn of the conversation, or the user's next conversation.
void Runner::GoOn(Exchange& exchange, int64_t now_ns) {
  const bool ok = exchange.error.empty();
  const int user = exchange.user;
  const int64_t at = now_ns + (ok ? Nanoseconds(options_.think_seconds) : kErrorPause);
  if (ok && !exchange.conversation.later_turns.empty()) {
    auto next = std::make_shared<Conversation>(std::move(exchange.conversation));
    next->messages.push_back({"assistant", std::move(exchange.answer)});
    next->messages.push_back({"user", std::move(next->later_turns.front())});
    next->later_turns.erase(next->later_turns.begin());
    later_.emplace(at, [this, next, user, at](int64_t now) {
      if (MayStart(now)) Launch(Make(std::move(*next), user, at), now);
    });
  } else if (user >= 0) {
    later_.emplace(at, [this, user](int64_t now) { StartUser(user, now); });
  }
}

void Runner::RunDue(int64_t now_ns) {
  if (connections_) {
    if (RequestsAreOver(now_ns)) connections_->Stop(now_ns);
    connections_->RunDue(now_ns);
  }
  while (!waiting_.empty() && transport_->HasRoom()) {
    auto exchange = std::move(waiting_.front());
    waiting_.pop_front();
    Launch(std::move(exchange), now_ns);
  }
  while (next_ != nullptr && next_->scheduled_ns <= now_ns) {
    Launch(std::move(next_), now_ns);
    PrepareNext();
  }
  while (!later_.empty() && later_.begin()->first <= now_ns) {
    const Action action = std::move(later_.begin()->second);
    later_.erase(later_.begin());
    action(now_ns);
  }
}

void Runner::Abort(Exchange& exchange, const char* why, int64_t now_ns) {
  transport_->Cancel(exchange);
  exchange.error = why;
  OnEnd(exchange, now_ns);
}

void Runner::ExpireTimeouts(int64_t now_ns) {
  while (!timeouts_.empty() && timeouts_.front().first <= now_ns) {
    const auto found = in_flight_.find(timeouts_.front().second);
    timeouts_.pop_front();
    if (found != in_flight_.end()) Abort(*found->second, "timeout", now_ns);
  }
}

void Runner::EndAll(const char* why, int64_t now_ns) {
  while (!in_flight_.empty()) Abort(*in_flight_.begin()->second, why, now_ns);
  for (auto& exchange : std::exchange(waiting_, {})) {
    measured_->Start(*exchange, now_ns);
    exchange->error = "not_sent";
    measured_->End(*exchange, now_ns);
  }
}

void Runner::SampleWindow(int64_t now_ns, LoadResult& result) {
  if (result.window_begin.time_ns == 0 && now_ns >= window_begin_ns_)
    result.window_begin = ReadCpu(options_.server_pid);
  if (result.window_end.time_ns == 0 && now_ns >= stop_ns_)
    result.window_end = ReadCpu(options_.server_pid);
}

void Runner::Begin(int64_t now_ns) {
  start_ns_ = now_ns;
  window_begin_ns_ = start_ns_ + Nanoseconds(options_.warmup_seconds);
  stop_ns_ = options_.duration_seconds > 0 ? start_ns_ + Nanoseconds(options_.duration_seconds)
                                           : INT64_MAX;
  measured_ = std::make_unique<Measurement>(start_ns_, window_begin_ns_, stop_ns_, options_.slo);
  if (connections_) connections_->Begin(start_ns_, window_begin_ns_, stop_ns_);
  if (options_.concurrency == 0) return PrepareNext();
  for (int user = 0; user < options_.concurrency; ++user)
    later_.emplace(start_ns_, [this, user](int64_t now) { StartUser(user, now); });
}

bool Runner::RequestsAreOver(int64_t now_ns) const {
  if (now_ns < stop_ns_ && (next_ != nullptr || !later_.empty())) return false;
  return in_flight_.empty() && waiting_.empty();
}

bool Runner::IsOver(int64_t now_ns) const {
  return stopped_ || (RequestsAreOver(now_ns) && (!connections_ || connections_->Over()));
}

void Runner::Wait(int64_t now_ns) {
  int64_t until = now_ns + kTick;
  if (next_ != nullptr) until = std::min(until, next_->scheduled_ns);
  if (connections_) until = std::min(until, connections_->NextNs());
  if (!later_.empty()) until = std::min(until, later_.begin()->first);
  if (!timeouts_.empty()) until = std::min(until, timeouts_.front().first);
  for (const int64_t edge : {window_begin_ns_, stop_ns_})
    if (edge > now_ns) until = std::min(until, edge);
  const int64_t wait = std::max<int64_t>(until - now_ns, 0);
  std::array<epoll_event, kEventsAtOnce> events;
  const int count = WaitForEvents(epoll(), events.data(), kEventsAtOnce, wait);
  // One reading for the batch: what is reported had arrived by now.
  const int64_t arrived_ns = NowNs();
  for (int i = 0; i < count; ++i)
    static_cast<Pollable*>(events[i].data.ptr)->OnEvents(events[i].events, arrived_ns);
  transport_->CollectClosed();
  if (connections_) connections_->CollectClosed();
  ended_.clear();
}

void Runner::Run(std::unique_ptr<Transport> transport, LoadResult& result) {
  transport_ = std::move(transport);
  result.run_begin = ReadCpu(options_.server_pid);
  if (options_.idle_connections > 0) {
    measured_ = std::make_unique<Measurement>(NowNs(), 0, INT64_MAX, options_.slo);
    const int64_t give_up_ns = NowNs() + 60 * kSecond;
    while (transport_->NumIdle() < options_.idle_connections && NowNs() < give_up_ns) {
      transport_->OpenIdle(options_.idle_connections);
      Wait(NowNs());
    }
  }
  int64_t now_ns = NowNs(), next_progress_ns = now_ns;
  Begin(now_ns);
  const int64_t drain_ns =
      stop_ns_ == INT64_MAX ? INT64_MAX : stop_ns_ + Nanoseconds(options_.drain_seconds);
  for (; !IsOver(now_ns); now_ns = NowNs()) {
    SampleWindow(now_ns, result);
    RunDue(now_ns);
    ExpireTimeouts(now_ns);
    if (now_ns >= drain_ns) EndAll("unfinished", now_ns);
    if (now_ns >= next_progress_ns) {
      next_progress_ns = now_ns + kSecond;
      if (hooks_.progress)
        hooks_.progress({.seconds = static_cast<double>(now_ns - start_ns_) / 1e9,
                         .in_flight = static_cast<int64_t>(in_flight_.size()),
                         .waiting = static_cast<int64_t>(waiting_.size()),
                         .measured = measured_.get()});
    }
    if (hooks_.stopped && hooks_.stopped()) stopped_ = true;
    Wait(now_ns);
  }
  result.interrupted = stopped_;
  if (stopped_) EndAll("interrupted", now_ns);
  measured_->CutWindow(now_ns);
  result.run_end = ReadCpu(options_.server_pid);
  if (result.window_begin.time_ns == 0) result.window_begin = result.run_end;
  if (result.window_end.time_ns == 0) result.window_end = result.run_end;
  result.wall_s = static_cast<double>(now_ns - start_ns_) / 1e9;
  if (connections_) result.new_connections = connections_->counts();
  result.connections = transport_->NumOpened();
  result.max_waiting = max_waiting_;
  result.idle_open = transport_->NumIdle();
  transport_.reset();
  result.measured = std::move(measured_);
}

}  // namespace

absl::StatusOr<LoadResult> RunLoad(const LoadOptions& options, const RunHooks& hooks) {
  const int64_t new_connections = options.connection_rate > 0 ? ConnectionLoad::kMaxOpen : 0;
  RETURN_IF_ERROR(
      AllowFiles(options.max_connections + options.idle_connections + new_connections + 64));
  ASSIGN_OR_RETURN(const Endpoint endpoint, ResolveUrl(options.url, options.tls));
  ASSIGN_OR_RETURN(Arrivals arrivals, options.concurrency > 0
                                          ? Arrivals::Create({.kind = ArrivalKind::kConstant})
                                          : Arrivals::Create(options.arrivals));
  ASSIGN_OR_RETURN(PromptSource prompts, PromptSource::Create(options.prompts));
  LoadResult result;
  ASSIGN_OR_RETURN(result.model, FindModel(options, endpoint));
  std::optional<Script> script;
  if (options.check_script) {
    ASSIGN_OR_RETURN(script, FetchScript(options, endpoint, result.model));
  }
  const auto runner = [&](RequestEncoder encode) {
    return std::make_unique<Runner>(options, hooks, endpoint, std::move(arrivals),
                                    std::move(prompts), std::move(encode),
                                    script ? &*script : nullptr);
  };
  if (options.protocol == "openai") {
    ASSIGN_OR_RETURN(RequestEncoder encode, OpenAiEncoder(options, result.model));
    const auto run = runner(std::move(encode));
    run->Run(std::make_unique<HttpTransport>(options, endpoint, run->epoll(), *run), result);
    return result;
  }
  ASSIGN_OR_RETURN(const auto dialect, GrpcDialect::Create(options, result.model));
  TlsOptions http2 = options.tls;
  http2.http2 = true;
  ASSIGN_OR_RETURN(const Endpoint calls, AtPort(endpoint, options.grpc_port, http2));
  const auto run = runner([&](const Exchange& exchange) { return dialect->Encode(exchange); });
  run->Run(std::make_unique<GrpcTransport>(options, calls, run->epoll(), dialect.get(), *run),
           result);
  return result;
}

}  // namespace sluice::load
