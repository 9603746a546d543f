// sluice.v1.Inference over the Service, whatever the transport. Calls take raw bytes: the key is
// checked before the message is parsed, and bytes that are no message get InvalidArgument with a
// reason.
#pragma once

#include <memory>
#include <string_view>

#include "rpc/call.h"
#include "rpc/call_record.h"

namespace sluice::rpc {

// The call of a method, such as "GenerateStream"; null: there is no such method.
std::shared_ptr<Call> NewInferenceCall(std::string_view method,
                                       const std::shared_ptr<Environment>& env,
                                       CallContext* context);

}  // namespace sluice::rpc
