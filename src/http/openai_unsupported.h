// The request fields that OpenAI's API or its common extensions know and this server does not serve
// yet. Ignoring one of them would give an answer to a question that was not asked, so each is
// refused by name.
#pragma once

#include "http/json_fields.h"
#include "http/openai_request.h"

namespace sluice {

// `num_choices`: n, for best_of, which is harmless when equal.
void RefuseUnsupportedFields(Endpoint endpoint, int64_t num_choices, JsonFields& fields);

// The same for one message of a chat.
void RefuseUnsupportedMessageFields(JsonFields& message);

}  // namespace sluice
