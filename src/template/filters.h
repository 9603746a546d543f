// Jinja's filters, tests and global functions, by name.
#pragma once

#include <string_view>

#include "template/runtime.h"
#include "template/value.h"

namespace sluice::jinja {

// Null: no such filter, test or global.
const Builtin* FindFilter(std::string_view name);
const Builtin* FindTest(std::string_view name);
const Builtin* FindGlobal(std::string_view name);

// The parts of the filter table, each from its own file.
const Builtin* FindTextFilter(std::string_view name);
const Builtin* FindNumberFilter(std::string_view name);
const Builtin* FindSequenceFilter(std::string_view name);
const Builtin* FindOrderFilter(std::string_view name);

// item.a.b.0, as the `attribute` arguments of filters name it (a str or an int). Undefined where a
// part is absent.
Value ResolveAttribute(Runtime& rt, const Value& item, const Value& attribute);

template <typename Table>
const Builtin* FindByName(const Table& table, std::string_view name) {
  for (const Builtin& builtin : table) {
    if (builtin.name == name) return &builtin;
  }
  return nullptr;
}

}  // namespace sluice::jinja
