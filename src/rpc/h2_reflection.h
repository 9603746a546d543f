// grpc.reflection.v1alpha.ServerReflection, for the transport that has no grpc++ to answer it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "rpc/call.h"

namespace sluice::rpc {

// A stream of questions, an answer to each. `services` are listed, and outlive the call. Needs no
// key.
std::shared_ptr<Call> NewReflectionCall(const std::vector<std::string>* services,
                                        CallContext* context);

}  // namespace sluice::rpc
