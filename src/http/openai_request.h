// From OpenAI's request objects to what a Service understands. Unknown fields are ignored, as
// clients expect; fields that are known but would change the answer and are not there yet are
// refused by name. Ranges of sampling values are the Service's to check.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "sluice/service.h"
#include "sluice/types.h"

namespace sluice {

enum class Endpoint : uint8_t { kChat, kCompletion };

// A request to generate, as it stood in the body. Tenant, deadline and ids are still to be filled
// in.
struct OpenAiRequest {
  Endpoint endpoint = Endpoint::kChat;
  GenerateRequest generate;  // request_id: the body's, may be empty
  bool stream = false;
  bool include_usage = false;     // a last chunk with the usage
  bool continuous_usage = false;  // the usage so far in every chunk
  bool return_token_ids = false;
  // The client's names of two fields, for errors that the Service reports under its own.
  std::string_view max_tokens_name = "max_tokens";
};

// Errors: InvalidArgument with `param`: malformed JSON (no param), wrong types, unsupported
// features.
absl::StatusOr<OpenAiRequest> ParseGenerate(Endpoint endpoint, std::string_view body,
                                            int max_json_depth);

struct OpenAiTokenize {
  TokenizeRequest request;
  bool return_token_strs = false;
};
absl::StatusOr<OpenAiTokenize> ParseTokenize(std::string_view body, int max_json_depth);

struct OpenAiDetokenize {
  std::string model;
  std::vector<TokenId> tokens;
};
absl::StatusOr<OpenAiDetokenize> ParseDetokenize(std::string_view body, int max_json_depth);

// The name under which the client sent a field that a Service's refusal names.
absl::Status RenameParam(const absl::Status& status, const OpenAiRequest& request);

inline constexpr int64_t kMaxChoices = 128;
inline constexpr int64_t kMaxLogprobs = 20;
inline constexpr size_t kMaxStopStrings =
    16;  // keeps hostile lists small; the Service has the last word
inline constexpr size_t kMaxRequestIdBytes = 128;

// Whether a client's request id or idempotency key may be echoed and logged: 1 to
// kMaxRequestIdBytes visible ASCII.
[[nodiscard]] bool IsValidId(std::string_view id);

}  // namespace sluice
