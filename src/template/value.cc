#include "template/value.h"

namespace sluice::jinja {

bool Value::SameAs(const Value& other) const {
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kBool:
      return u_.boolean == other.u_.boolean;
    case Kind::kFloat:
      return u_.number == other.u_.number;
    case Kind::kString:
      return u_.string == other.u_.string || u_.string->bytes() == other.u_.string->bytes();
    case Kind::kInt:
      return u_.integer == other.u_.integer;
    default:
      return u_.sequence == other.u_.sequence;
  }
}

const Value* Dict::Find(std::string_view key) const {
  if (entries.size() > kScan) {
    const auto it = index.find(key);
    return it == index.end() ? nullptr : &entries[it->second].value;
  }
  for (const Entry& entry : entries) {
    if (entry.key.IsString() && entry.key.string().bytes() == key) return &entry.value;
  }
  return nullptr;
}

void Dict::SetString(const Value& key, const Value& value) {
  const std::string_view bytes = key.string().bytes();
  if (const Value* found = Find(bytes)) {
    *const_cast<Value*>(found) = value;
    return;
  }
  entries.push_back({key, value});
  if (entries.size() <= kScan) return;
  for (size_t i = entries.size() == kScan + 1 ? 0 : entries.size() - 1; i < entries.size(); ++i) {
    if (entries[i].key.IsString()) index.emplace(entries[i].key.string().bytes(), i);
  }
}

const Value* Namespace::Find(std::string_view name) const {
  for (const auto& [field, value] : fields) {
    if (field == name) return &value;
  }
  return nullptr;
}

bool IsTrue(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.integer() != 0;
    case Kind::kFloat:
      return value.number() != 0;
    case Kind::kString:
      return !value.string().empty();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
    case Kind::kView:
      return !value.sequence().items.empty();
    case Kind::kDict:
      return !value.dict().entries.empty();
    case Kind::kGenerator:
    case Kind::kNamespace:
    case Kind::kCallable:
    case Kind::kLoop:
      return true;
  }
  return false;
}

std::string_view TypeName(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
      return "undefined";
    case Kind::kNone:
      return "None";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kRange:
      return "range";
    case Kind::kView:
      return "dict view";
    case Kind::kGenerator:
      return "generator";
    case Kind::kDict:
      return "dict";
    case Kind::kNamespace:
      return "namespace";
    case Kind::kCallable:
      return "function";
    case Kind::kLoop:
      return "loop";
  }
  return "value";
}

}  // namespace sluice::jinja
