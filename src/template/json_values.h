// JSON in (the request's variables) and out (the tojson filter).
#pragma once

#include <boost/json/value.hpp>

#include "template/runtime.h"
#include "template/value.h"

namespace sluice::jinja {

// Every string in it is the client's. Errors: nesting beyond the depth limit, integers beyond 64
// bits signed become floats.
Value FromJson(Runtime& rt, const boost::json::value& json);

// json.dumps(value, ensure_ascii=False), with the arguments transformers' tojson takes. Bytes of
// strings keep their origins; punctuation and numbers count as the client's. args: ensure_ascii,
// indent, separators, sort_keys.
Value ToJson(Runtime& rt, const Value& self, const CallArgs& args);

}  // namespace sluice::jinja
