// The methods that Python's str, dict, list and tuple, and Jinja's loop, have in templates.
#pragma once

#include <string_view>

#include "template/runtime.h"
#include "template/value.h"

namespace sluice::jinja {

// Null: the type has no such method.
const Builtin* FindMethod(const Value& value, std::string_view name);
const Builtin* FindLoopMethod(std::string_view name);

// Methods that would change their object: the immutable sandbox makes them undefined.
bool IsMutator(const Value& value, std::string_view name);

}  // namespace sluice::jinja
