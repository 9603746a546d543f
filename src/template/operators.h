// Python's operators, item access and iteration over Values. All report failures through the
// Runtime.
#pragma once

#include <optional>
#include <span>
#include <string_view>

#include "template/runtime.h"
#include "template/value.h"

namespace sluice::jinja {

enum class ArithmeticOp : uint8_t { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class CompareOp : uint8_t { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

// Integers have 64 bits; a result that needs more is an error.
Value Arithmetic(Runtime& rt, ArithmeticOp op, const Value& left, const Value& right);
Value Negate(Runtime& rt, const Value& value);
Value UnaryPlus(Runtime& rt, const Value& value);

bool Equals(Runtime& rt, const Value& left, const Value& right);
bool Compare(Runtime& rt, CompareOp op, const Value& left, const Value& right);
bool Contains(Runtime& rt, const Value& container, const Value& item);

// The elements that iterating gives; a generator gives what is left of it and is empty afterwards.
// The span lives as long as the rendering. Errors: not iterable.
std::span<const Value> Items(Runtime& rt, const Value& value);

// len(). Errors: the type has none.
int64_t Length(Runtime& rt, const Value& value);

// value[key]: Undefined where it is absent or the type has no items, as Jinja has it; an error on
// Undefined.
Value GetItem(Runtime& rt, const Value& value, const Value& key);
// value.name: methods first, then items. `name` is the template's own and outlives the rendering.
Value GetAttribute(Runtime& rt, const Value& value, const std::string& name);
// value[start:stop:step]; bounds may be Missing. Errors: not sliceable.
Value GetSlice(Runtime& rt, const Value& value, const Value& start, const Value& stop,
               const Value& step);

// The error of using an Undefined.
Value FailUndefined(Runtime& rt, const Value& undefined);

// An int (or bool) argument. Errors: another type. `what` names it in the message.
int64_t IntArgument(Runtime& rt, const Value& value, std::string_view what);

// Adds an entry, replacing one with an equal key. Errors: an unhashable key.
void SetEntry(Runtime& rt, Dict& dict, const Value& key, const Value& value);
const Value* FindEntry(Runtime& rt, const Dict& dict, const Value& key);  // null: absent

}  // namespace sluice::jinja
