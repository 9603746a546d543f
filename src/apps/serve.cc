#include "apps/serve.h"

#include <fmt/format.h>
#include <pthread.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "apps/create.h"
#include "base/api_keys.h"
#include "base/logging.h"
#include "base/status_macros.h"
#include "http/server.h"
#include "rpc/rpc_server.h"

namespace sluice {
namespace {

constexpr int kDeviceErrorExit = 70;
constexpr absl::Duration kTick = absl::Milliseconds(50);
// After a device error: long enough that clients read their error and a probe sees health off.
constexpr absl::Duration kDeviceErrorGrace = absl::Seconds(3);

// The signals the loop below waits for; blocked in every thread, so set before any other thread
// starts.
sigset_t BlockSignals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return set;
}

// The next pending signal, or 0 after a tick.
int NextSignal(const sigset_t& set) {
  const timespec tick = absl::ToTimespec(kTick);
  const int signal = sigtimedwait(&set, nullptr, &tick);
  return signal > 0 ? signal : 0;
}

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

std::string UrlHost(const std::string& host) {
  if (host == "0.0.0.0" || host == "::") return "127.0.0.1";
  return host.find(':') == std::string::npos ? host : fmt::format("[{}]", host);
}

// A first request that the model understands.
std::string_view ExampleBody(ModelTask task) {
  switch (task) {
    case ModelTask::kGenerate:
      return R"(/v1/chat/completions -d '{"model":"default","stream":true,"messages":[{"role":"user","content":"Why is the sky blue?"}]}')";
    case ModelTask::kEmbed:
      return R"(/v1/embeddings -d '{"model":"default","input":"Why is the sky blue?"}')";
    case ModelTask::kScore:
      return R"(/v1/rerank -d '{"model":"default","query":"Why is the sky blue?","documents":["Rayleigh scattering","A red car"]}')";
  }
  return "";
}

void PrintReady(const Config& config, const ModelDescription& model, int http_port, int grpc_port,
                int admin_port) {
  const std::string host = UrlHost(config.host);
  const std::string scheme = config.tls_cert.empty() ? "http" : "https";
  const std::string url = fmt::format("{}://{}:{}", scheme, host, http_port);
  fmt::print("sluice {} is ready: {} at {}", Version(), model.id, url);
  if (grpc_port > 0) fmt::print(", gRPC at {}:{}", host, grpc_port);
  if (admin_port > 0) fmt::print(", admin at http://127.0.0.1:{}", admin_port);
  if (config.backend == "sim") fmt::print(", SIMULATED: no model runs");
  const std::string auth = config.api_keys_file.empty() ? "" : " -H \"Authorization: Bearer $KEY\"";
  const std::string tls = config.tls_cert.empty() ? "" : " --cacert CA.pem";
  fmt::print("\n\n  curl -sN{}{} -H 'Content-Type: application/json' {}{}\n", auth, tls, url,
             ExampleBody(model.task));
  if (grpc_port > 0 && model.task == ModelTask::kGenerate) {
    fmt::print("\n  ./dev python docs/examples/grpc_stream.py {}:{} 'Why is the sky blue?'\n", host,
               grpc_port);
  }
  fmt::print("\n");
  std::fflush(stdout);
}

class Server {
 public:
  explicit Server(const Config& config) : config_(config) {}

  absl::Status Start() {
    ASSIGN_OR_RETURN(keys_, ApiKeys::Load(config_.api_keys_file));
    ASSIGN_OR_RETURN(service_, CreateLocalService(config_));
    ASSIGN_OR_RETURN(http_,
                     HttpServer::Start(config_, service_.get(), keys_.get(), &service_->metrics(),
                                       &service_->clock(), &service_->stages()));
    if (config_.grpc_port >= 0) {
      ASSIGN_OR_RETURN(rpc_,
                       RpcServer::Start(config_, service_.get(), keys_.get(), &service_->metrics(),
                                        &service_->clock(), &service_->stages()));
    }
    if (!IsLoopback(config_.host) && !keys_->required()) {
      Log(LogLevel::kWarn, "public_without_keys",
          {{"host", config_.host}, {"advice", "set api-keys-file"}});
    }
    if (config_.backend == "sim") {
      Log(LogLevel::kWarn, "simulated",
          {{"device", service_->GetVersion().isa},
           {"meaning", "times are a model's, tokens are a script's"}});
    }
    service_->metrics().SetReady(true);
    PrintReady(config_, service_->ListModels().front(), http_->port(), rpc_ ? rpc_->port() : -1,
               http_->admin_port());
    return absl::OkStatus();
  }

  int Run(const sigset_t& signals) {
    while (true) {
      const int signal = NextSignal(signals);
      if (signal == SIGHUP) Reload();
      if (signal == SIGTERM || signal == SIGINT) return Drain(signals);
      const Health health = service_->GetHealth();
      service_->metrics().SetReady(health.ready);
      if (!health.live) return EndAfterDeviceError(health);
      if (health.reason == "draining") return Drain(signals);  // asked for on the admin port
    }
  }

 private:
  void Reload() {
    const absl::Status keys = keys_->Reload();
    if (!keys.ok())
      Log(LogLevel::kError, "reload_failed",
          {{"what", "api-keys-file"}, {"error", keys.ToString()}});
    auto tenants = TenantRules::Load(config_.tenants_file, keys_->required());
    if (tenants.ok()) {
      service_->SetTenantRules(*std::move(tenants));
    } else {
      Log(LogLevel::kError, "reload_failed",
          {{"what", "tenants-file"}, {"error", tenants.status().ToString()}});
    }
    http_->ReloadTls();
    if (rpc_) {
      const absl::Status certificates = rpc_->ReloadCertificates();
      if (!certificates.ok())
        Log(LogLevel::kError, "reload_failed",
            {{"what", "tls"}, {"error", certificates.ToString()}});
    }
    Log(LogLevel::kInfo, "reloaded");
  }

  int Drain(const sigset_t& signals) {
    Log(LogLevel::kInfo, "draining", {{"timeout_s", config_.drain_timeout_s}});
    service_->Drain();
    service_->metrics().SetReady(false);
    if (rpc_) rpc_->SetServing(false);
    const absl::Time end = absl::Now() + absl::Seconds(config_.drain_timeout_s);
    while (!service_->Drained() && absl::Now() < end) {
      const int signal = NextSignal(signals);
      if (signal == SIGTERM || signal == SIGINT) std::_Exit(128 + signal);
    }
    const bool drained = service_->Drained();
    pthread_sigmask(SIG_UNBLOCK, &signals,
                    nullptr);  // from here on a signal ends the process by itself
    Stop();
    Log(drained ? LogLevel::kInfo : LogLevel::kWarn, "stopped", {{"drained", drained}});
    return drained ? 0 : 1;
  }

  int EndAfterDeviceError(const Health& health) {
    Log(LogLevel::kError, "ending", {{"reason", health.reason}});
    service_->metrics().SetReady(false);
    if (rpc_) rpc_->SetServing(false);
    absl::SleepFor(kDeviceErrorGrace);
    Stop();
    return kDeviceErrorExit;
  }

  // Front ends stop first, so that every stream gets its End while its queue lives.
  void Stop() {
    http_->Shutdown();
    if (rpc_) rpc_->Shutdown(absl::Now() + absl::Seconds(1));
    service_.reset();
  }

  const Config config_;
  std::unique_ptr<ApiKeys> keys_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<LocalService> service_;  // last: its engines end before the front ends' queues
};

}  // namespace

int Serve(const Config& config) {
  const sigset_t signals = BlockSignals();
  Server server(config);
  const absl::Status started = server.Start();
  if (!started.ok()) {
    fmt::print(stderr, "sluice: {}\n", std::string(started.message()));
    return 1;
  }
  return server.Run(signals);
}

int CheckConfig(const Config& config) {
  absl::Status status = ApiKeys::Load(config.api_keys_file).status();
  status.Update(TenantRules::Load(config.tenants_file, !config.api_keys_file.empty()).status());
  if (status.ok()) {
    fmt::print("the configuration is valid\n");
    return 0;
  }
  fmt::print(stderr, "sluice: {}\n", std::string(status.message()));
  return 1;
}

}  // namespace sluice
