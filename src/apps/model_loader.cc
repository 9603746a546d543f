#include "apps/model_loader.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "apps/simulation.h"
#include "base/logging.h"
#include "base/sleep.h"
#include "base/stage_watch.h"
#include "base/status_macros.h"
#include "executor/encoder_executor.h"
#include "executor/faulty_executor.h"
#include "executor/model_executor.h"
#include "executor/ranked_executor.h"
#include "executor/script_text.h"
#include "executor/simulated_executor.h"
#include "model/kv_cache.h"
#include "model/linear_loader.h"
#include "model/model_file.h"
#include "model/model_share.h"
#include "model/quantise.h"
#include "model/transformer.h"

namespace sluice {
namespace {

int64_t Mib(int64_t bytes) { return bytes >> 20; }

// An encoder keeps no KV: its context is bound by what one step holds, for its inputs are never
// cut.
absl::StatusOr<KvPlan> PlanEncoder(const Config& config, const ModelFile& file) {
  const int32_t trained = file.info.max_model_len;
  if (config.max_model_len > trained || config.max_model_len > config.max_step_tokens) {
    return absl::InvalidArgumentError(
        fmt::format("max-model-len is {}; the model allows {} and max-step-tokens is {}",
                    config.max_model_len, trained, config.max_step_tokens));
  }
  // Packed, an encoder's weights take about what they take in the file.
  const int64_t weights = file.num_bytes(), available = AvailableMemoryBytes();
  if (weights > available) {
    return absl::ResourceExhaustedError(
        fmt::format("{}: the model needs {} MiB for weights; {} MiB of memory are available",
                    config.model, Mib(weights), Mib(available)));
  }
  const int32_t wanted = config.max_model_len > 0 ? config.max_model_len : trained;
  return KvPlan{1, std::min(wanted, config.max_step_tokens)};
}

absl::StatusOr<std::unique_ptr<Executor>> CreateEncoder(const Config& config, const ModelFile& file,
                                                        const LoadOptions& load,
                                                        std::unique_ptr<Ops> ops) {
  const EncoderLimits limits{config.max_step_tokens, config.max_rows};
  return EncoderExecutor::Create(file.encoder->config, file.encoder->weights, std::move(ops),
                                 {.limits = limits, .load = load});
}

absl::StatusOr<std::unique_ptr<Executor>> CreateDecoder(const ModelFile& file,
                                                        std::vector<std::unique_ptr<Ops>> ranks,
                                                        const ModelExecutorOptions& options) {
  if (ranks.size() == 1) return ModelExecutor::Create(file, std::move(ranks.front()), options);
  const auto num_ranks = static_cast<int32_t>(ranks.size());
  return RankedExecutor::Create(
      num_ranks, [&](int32_t rank) -> absl::StatusOr<std::unique_ptr<Executor>> {
        ModelExecutorOptions of_rank = options;
        of_rank.load.threads = std::max(options.load.threads / num_ranks, 1);
        if (rank > 0) of_rank.load.progress = nullptr;
        return ModelExecutor::Create(file, std::move(ranks[static_cast<size_t>(rank)]),
                                     std::move(of_rank));
      });
}

// A device that takes its time and answers with the script.
std::unique_ptr<Executor> CreateSimulated(const Config& config, const KvPlan& kv,
                                          const DeviceSpec& device, const ModelShape& shape,
                                          const ModelFile& file, const Tokenizer& tokenizer,
                                          const Clock& clock) {
  const PromptSegment script{.text = Text(std::string(kScriptText))};
  return std::make_unique<SimulatedExecutor>(
      SimulatedExecutorConfig{.max_rows = config.max_rows,
                              .kv_block_tokens = kKvBlockTokens,
                              .num_kv_blocks = kv.num_blocks,
                              .max_steps_in_flight = device.max_steps_in_flight,
                              .time = StepTimeModel::Of(device, shape),
                              .clock = &clock,
                              .wait_until = SleepUntil,
                              .vector_dim = file.config.model_dim,
                              .script = tokenizer.Encode({&script, 1}),
                              .check_plans = false});
}

absl::StatusOr<PlantedFault> ParseFault(const std::string& text) {
  PlantedFault fault;
  if (text.empty() || text == "leak-row") return fault;
  for (const std::string_view stage : {"prepare", "io", "pump"}) {
    if (PlantedStall(text, stage) > 0) return fault;  // theirs to do
  }
  for (const auto& [prefix, step] :
       {std::pair<std::string_view, StepId*>{"fail-step=", &fault.fail_step},
        std::pair<std::string_view, StepId*>{"stall-step=", &fault.stall_step}}) {
    if (!text.starts_with(prefix)) continue;
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + prefix.size(), end, *step);
    if (parsed.ec == std::errc() && parsed.ptr == end) return fault;
  }
  return absl::InvalidArgumentError(
      fmt::format("plant-fault is {:?}; it may be leak-row, fail-step=N, stall-step=N, "
                  "stall-prepare=N, stall-io=N or stall-pump=N",
                  text));
}

// Rounds as the settings say, gives the file's pages back, and tells how far it is every few
// seconds.
LoadOptions MakeLoadOptions(const Config& config, std::shared_ptr<const ModelFile> file) {
  static constexpr absl::Duration kBetweenLines = absl::Seconds(2);
  LoadOptions load;
  load.quantise = ParseQuantisedType(config.quantize);
  load.threads = config.threads > 0 ? config.threads
                                    : static_cast<int32_t>(std::thread::hardware_concurrency());
  load.progress = [total = LinearBytes(file->weights, std::nullopt) / config.tensor_parallel_size,
                   next = absl::Now() + kBetweenLines](int64_t bytes) mutable {
    if (absl::Now() < next) return;
    next = absl::Now() + kBetweenLines;
    Log(LogLevel::kInfo, "model_loading",
        {{"percent", std::min<int64_t>(bytes * 100 / std::max<int64_t>(total, 1), 100)},
         {"total_mib", Mib(total)}});
  };
  load.release = [file = std::move(file)](std::span<const uint8_t> bytes) {
    file->ReleasePages(bytes);
  };
  return load;
}

// How a decoder gives vectors; nothing: it generates.
std::optional<Pooling> PoolingOf(const Config& config, const ModelFile& file) {
  constexpr std::pair<std::string_view, Pooling> kNames[] = {
      {"last", Pooling::kLast}, {"mean", Pooling::kMean}, {"cls", Pooling::kFirst}};
  for (const auto& [name, pooling] : kNames) {
    if (config.embedding_pooling == name) return pooling;
  }
  return config.embedding_pooling.empty() ? file.pooling : std::nullopt;
}

// How the file's weights were quantised by their maker, where a configuration says so.
std::string QuantisationOf(const ModelFile& file) {
  if (file.folder == nullptr || !file.folder->config().quantisation.has_value()) return "none";
  return file.folder->config().quantisation->summary;
}

std::string ServedName(const Config& config, const ModelInfo& info) {
  return config.served_model_name.empty() ? info.name : config.served_model_name;
}

EngineOptions OptionsOfEngine(const Config& config, const KvPlan& kv, int max_steps_in_flight) {
  return {.scheduler = {.max_rows = config.max_rows,
                        .max_step_tokens = config.max_step_tokens,
                        .kv_block_tokens = kKvBlockTokens,
                        .num_kv_blocks = kv.num_blocks,
                        .max_model_len = kv.max_model_len,
                        .max_waiting_sequences = config.max_waiting_requests,
                        .max_waiting_tokens = config.max_waiting_tokens,
                        .max_steps_in_flight = max_steps_in_flight,
                        .priority_ageing = absl::Seconds(config.priority_ageing_s),
                        .prefix_cache = config.prefix_cache},
          .max_wait = absl::Seconds(config.max_wait_s),
          .stall_timeout = absl::Seconds(config.stall_timeout_s),
          .plant_leak = config.plant_fault == "leak-row"};
}

// Name, tokenizer and template: all but the engine.
absl::StatusOr<std::unique_ptr<LoadedModel>> Describe(const Config& config,
                                                      const std::shared_ptr<const ModelFile>& file,
                                                      KvType kv_type) {
  auto model = std::make_unique<LoadedModel>();
  model->backing = file;
  model->info = file->info;
  model->info.name = ServedName(config, file->info);
  // Rounded weights, or keys and values, are another model to whoever compares answers.
  if (!config.quantize.empty()) model->info.hash += "-" + config.quantize;
  if (kv_type != KvType::kF16) model->info.hash += fmt::format("-kv-{}", KvTypeName(kv_type));
  model->aliases = config.model_alias;
  model->loaded_at = absl::Now();
  ASSIGN_OR_RETURN(model->tokenizer, Tokenizer::Create(file->info.tokenizer));
  if (file->info.chat_template.empty()) return model;
  auto parsed = ChatTemplate::Parse(file->info.chat_template);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(fmt::format("{}: tokenizer.chat_template: {}", config.model,
                                                  std::string(parsed.status().message())));
  }
  model->chat_template = *std::move(parsed);
  return model;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ModelLoader>> ModelLoader::Create(const Config& config,
                                                                 const Clock* clock) {
  ASSIGN_OR_RETURN(std::unique_ptr<const Backend> backend, Backend::Create(config));
  return std::unique_ptr<ModelLoader>(
      new ModelLoader(std::move(backend), config.gpu_device, config.tensor_parallel_size, clock));
}

std::unique_ptr<Metrics> ModelLoader::MetricsOf(const std::string& name, const std::string& alias) {
  const MutexLock lock(mutex_);
  if (page_ == nullptr) {
    server_metrics_ = std::make_unique<Metrics>(name, alias);
    page_ = server_metrics_->ForModel(name);
    const int end = backend_->name() == "cuda" ? gpu_device_ + num_devices_ : gpu_device_;
    for (int device = gpu_device_; device < end; ++device) {
      absl::StatusOr<CudaHealthReader> reader = WatchCudaDevice(device);
      if (reader.ok()) {
        watches_.push_back(std::make_unique<DeviceWatch>(device, *std::move(reader), page_.get()));
      } else {
        Log(LogLevel::kWarn, "device_not_watched",
            {{"reason", std::string(reader.status().message())}});
      }
    }
  }
  return page_->ForModel(name);
}

std::unique_ptr<Metrics> ModelLoader::TakeServerMetrics() {
  const MutexLock lock(mutex_);
  return std::move(server_metrics_);
}

absl::StatusOr<ModelLoader::Computed> ModelLoader::CreateExecutor(
    const Config& config, const std::shared_ptr<const ModelFile>& file,
    const std::optional<Pooling>& pooling) const {
  ASSIGN_OR_RETURN(std::vector<std::unique_ptr<Ops>> ranks, backend_->CreateRanks(config));
  const auto num_ranks = static_cast<int32_t>(ranks.size());
  const LoadOptions load = MakeLoadOptions(config, file);
  Computed made;
  if (file->encoder.has_value()) {
    if (num_ranks > 1) {
      return absl::InvalidArgumentError(fmt::format(
          "{}: tensor-parallel-size is {}; an encoder allows 1", config.model, num_ranks));
    }
    ASSIGN_OR_RETURN(made.kv, PlanEncoder(config, *file));
    ASSIGN_OR_RETURN(made.executor, CreateEncoder(config, *file, load, std::move(ranks.front())));
    return made;
  }
  RETURN_IF_ERROR(CheckRanks(file->config, file->weights, num_ranks));
  ASSIGN_OR_RETURN(const KvType kv_type, KvTypeOf(config));
  const int64_t block_bytes = KvCache::BlockBytes(
      *ranks.front(), ConfigOfRank(file->config, num_ranks), kKvBlockTokens, kv_type);
  ASSIGN_OR_RETURN(made.kv, PlanKv(config, file->config, block_bytes, [&](int64_t len) {
                     return backend_->PlanMemory(config, *file, len);
                   }));
  const TransformerLimits limits{.max_step_tokens = config.max_step_tokens,
                                 .max_rows = config.max_rows,
                                 .max_model_len = made.kv.max_model_len,
                                 .kv_block_tokens = kKvBlockTokens,
                                 .num_kv_blocks = made.kv.num_blocks,
                                 .kv_type = kv_type};
  ASSIGN_OR_RETURN(
      made.executor,
      CreateDecoder(*file, std::move(ranks), {.limits = limits, .load = load, .pooling = pooling}));
  return made;
}

absl::StatusOr<ModelLoader::Computed> ModelLoader::CreateSimulatedExecutor(
    const Config& config, const ModelFile& file, const Tokenizer& tokenizer) const {
  if (file.encoder.has_value()) {
    return absl::UnimplementedError(
        fmt::format("{}: an encoder; backend sim simulates decoders", config.model));
  }
  const Simulation& simulation = *backend_->simulation();
  const ModelShape shape = simulation.shape ? *simulation.shape : ShapeOf(config, file);
  Computed made;
  ASSIGN_OR_RETURN(
      made.kv,
      PlanKv(config, shape.config, shape.KvTokenBytes() * kKvBlockTokens, [&](int64_t len) {
        return PlanSimulatedMemory(config, simulation.device, shape, len);
      }));
  made.executor =
      CreateSimulated(config, made.kv, simulation.device, shape, file, tokenizer, *clock_);
  return made;
}

absl::StatusOr<std::unique_ptr<LoadedModel>> ModelLoader::Load(const Config& config) {
  ASSIGN_OR_RETURN(const PlantedFault fault, ParseFault(config.plant_fault));
  const bool keep_fp8 = backend_->takes_fp8() && config.quantize.empty();  // else it is rounded
  ASSIGN_OR_RETURN(ModelFile opened, ModelFile::Open(config.model, keep_fp8));
  const auto file = std::make_shared<const ModelFile>(std::move(opened));  // owner: the LoadedModel
  const bool encoder = file->encoder.has_value();
  if (encoder && !config.embedding_pooling.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: embedding-pooling is for decoders; an encoder pools as its files say", config.model));
  }
  ASSIGN_OR_RETURN(const KvType kv_type, KvTypeOf(config));
  if (kv_type != KvType::kF16 && backend_->name() != "cuda") {
    return absl::InvalidArgumentError(
        fmt::format("kv-cache-dtype is {}; the {} backend allows auto and f16",
                    config.kv_cache_dtype, backend_->name()));
  }
  if (encoder && kv_type != KvType::kF16) {
    return absl::InvalidArgumentError(
        fmt::format("{}: kv-cache-dtype is {}; an encoder keeps no KV cache", config.model,
                    config.kv_cache_dtype));
  }
  const std::optional<Pooling> pooling = PoolingOf(config, *file);
  ASSIGN_OR_RETURN(std::unique_ptr<LoadedModel> model, Describe(config, file, kv_type));
  if (pooling.has_value()) {
    model->info.task = ModelTask::kEmbed;
    model->info.vector_dim = file->config.model_dim;
  }
  std::optional<Computed> made;
  if (backend_->simulation() != nullptr) {
    ASSIGN_OR_RETURN(made, CreateSimulatedExecutor(config, *file, *model->tokenizer));
  } else {
    ASSIGN_OR_RETURN(made, CreateExecutor(config, file, pooling));
  }
  auto& [executor, kv] = *made;
  model->info.max_model_len = kv.max_model_len;
  if (fault.fail_step + fault.stall_step > 0)
    executor = std::make_unique<FaultyExecutor>(std::move(executor), fault);
  model->metrics = MetricsOf(model->info.name, config.metrics_alias);
  EngineOptions options = OptionsOfEngine(config, kv, executor->max_steps_in_flight());
  options.system_fingerprint = VersionWith(model->info).system_fingerprint;
  if (encoder) {
    options.scheduler.prefix_cache = options.scheduler.keeps_kv = false;
    options.scheduler.whole_prompts = true;
  }
  // What is pooled from all tokens needs them computed.
  if (pooling.has_value() && *pooling != Pooling::kLast) options.scheduler.prefix_cache = false;
  model->engine = std::make_unique<Engine>(options, std::move(executor), *model->tokenizer,
                                           *model->metrics, *clock_);
  Log(LogLevel::kInfo, "model_loaded",
      {{"model", model->info.name},
       {"backend", backend_->name()},
       {"backend_reason", backend_->reason()},
       {"isa", backend_->detail()},
       {"quantization", QuantisationOf(*file)},
       {"kv_blocks", kv.num_blocks},
       {"kv_cache_dtype", std::string(KvTypeName(kv_type))},
       {"max_model_len", kv.max_model_len}});
  return model;
}

VersionInfo ModelLoader::VersionWith(const ModelInfo& model) const {
  VersionInfo v{.version = SLUICE_VERSION,
                .backend = backend_->name(),
                .isa = backend_->detail(),
                .backend_reason = backend_->reason(),
                .model_hash = model.hash};
  const std::string all = fmt::format("{}|{}|{}|{}", v.version, v.backend, v.isa, v.model_hash);
  v.system_fingerprint = fmt::format("fp_{:016x}", XXH3_64bits(all.data(), all.size()));
  return v;
}

}  // namespace sluice
