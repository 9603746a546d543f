#include "template/operators.h"

#include <fmt/format.h>

#include <cmath>

#include "template/formatting.h"

namespace sluice::jinja {
namespace {

constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};

Value FailOperands(Runtime& rt, ArithmeticOp op, const Value& left, const Value& right) {
  if (left.IsUndefined()) return FailUndefined(rt, left);
  if (right.IsUndefined()) return FailUndefined(rt, right);
  return rt.Fail(fmt::format("operator {} does not apply to {} and {}",
                             kSymbols[static_cast<size_t>(op)], TypeName(left), TypeName(right)));
}

Value FailOverflow(Runtime& rt) { return rt.Fail("an integer does not fit 64 bits"); }

Value IntPower(Runtime& rt, int64_t base, int64_t exponent) {
  if (exponent < 0) {
    if (base == 0) return rt.Fail("zero cannot be raised to a negative power");
    return Value::Float(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  if (base == 0 || base == 1) return Value::Int(exponent == 0 ? 1 : base);
  if (base == -1) return Value::Int(exponent % 2 == 0 ? 1 : -1);
  int64_t result = 1;
  for (int64_t i = 0; i < exponent; ++i) {  // |base| >= 2: overflows within 63 turns
    if (__builtin_mul_overflow(result, base, &result)) return FailOverflow(rt);
  }
  return Value::Int(result);
}

Value IntArithmetic(Runtime& rt, ArithmeticOp op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  switch (op) {
    case ArithmeticOp::kAdd:
      overflow = __builtin_add_overflow(a, b, &result);
      break;
    case ArithmeticOp::kSub:
      overflow = __builtin_sub_overflow(a, b, &result);
      break;
    case ArithmeticOp::kMul:
      overflow = __builtin_mul_overflow(a, b, &result);
      break;
    case ArithmeticOp::kPow:
      return IntPower(rt, a, b);
    case ArithmeticOp::kDiv:
      if (b == 0) return rt.Fail("division by zero");
      return Value::Float(static_cast<double>(a) / static_cast<double>(b));
    case ArithmeticOp::kFloorDiv:
    case ArithmeticOp::kMod: {
      if (b == 0) return rt.Fail("division by zero");
      if (b == -1) {  // INT64_MIN / -1 traps
        if (op == ArithmeticOp::kMod) return Value::Int(0);
        overflow = __builtin_sub_overflow(int64_t{0}, a, &result);
        break;
      }
      const int64_t remainder = a % b;
      const bool floor_down = remainder != 0 && (remainder < 0) != (b < 0);
      result = op == ArithmeticOp::kMod ? remainder + (floor_down ? b : 0)
                                        : a / b - (floor_down ? 1 : 0);
      break;
    }
  }
  return overflow ? FailOverflow(rt) : Value::Int(result);
}

Value FloatArithmetic(Runtime& rt, ArithmeticOp op, double a, double b) {
  const bool divides =
      op == ArithmeticOp::kDiv || op == ArithmeticOp::kFloorDiv || op == ArithmeticOp::kMod;
  if (divides && b == 0) return rt.Fail("division by zero");
  double remainder = divides ? std::fmod(a, b) : 0;
  const bool floor_down = remainder != 0 && (remainder < 0) != (b < 0);
  switch (op) {
    case ArithmeticOp::kAdd:
      return Value::Float(a + b);
    case ArithmeticOp::kSub:
      return Value::Float(a - b);
    case ArithmeticOp::kMul:
      return Value::Float(a * b);
    case ArithmeticOp::kDiv:
      return Value::Float(a / b);
    case ArithmeticOp::kMod:
      if (floor_down) remainder += b;
      return Value::Float(remainder == 0 ? std::copysign(0.0, b) : remainder);
    case ArithmeticOp::kFloorDiv:
      return Value::Float(std::isinf(b) || std::isinf(a)
                              ? std::floor(a / b)
                              : std::round((a - remainder) / b) - (floor_down ? 1 : 0));
    case ArithmeticOp::kPow:
      break;
  }
  if (a == 0 && b < 0) return rt.Fail("zero cannot be raised to a negative power");
  const double result = std::pow(a, b);
  if (std::isfinite(a) && std::isfinite(b) && !std::isfinite(result))
    return rt.Fail("a power is out of range");
  return Value::Float(result);
}

Value Repeat(Runtime& rt, const Value& value, int64_t times) {
  const auto count = static_cast<size_t>(times < 0 ? 0 : times);
  size_t total = 0;
  if (value.IsString()) {
    const TracedString& text = value.string();
    if (__builtin_mul_overflow(text.size(), count, &total)) total = SIZE_MAX;
    if (!rt.Room(total)) return {};
    TracedString out;
    for (size_t i = 0; total > 0 && i < count; ++i) out.Append(text);
    return rt.NewString(std::move(out));
  }
  const std::vector<Value>& items = value.sequence().items;
  if (__builtin_mul_overflow(items.size(), count, &total)) total = SIZE_MAX;
  if (!rt.RoomForItems(total)) return {};
  std::vector<Value> out;
  out.reserve(total);
  for (size_t i = 0; total > 0 && i < count; ++i) out.insert(out.end(), items.begin(), items.end());
  return rt.NewSequence(value.kind(), std::move(out));
}

Value Join(Runtime& rt, const Value& left, const Value& right) {
  if (left.IsString()) {
    if (!rt.Room(left.string().size() + right.string().size())) return {};
    TracedString out = left.string();
    out.Append(right.string());
    return rt.NewString(std::move(out));
  }
  if (!rt.RoomForItems(left.sequence().items.size() + right.sequence().items.size())) return {};
  std::vector<Value> out = left.sequence().items;
  out.insert(out.end(), right.sequence().items.begin(), right.sequence().items.end());
  return rt.NewSequence(left.kind(), std::move(out));
}

bool IsRepeatable(const Value& v) {
  return v.IsString() || v.Is(Kind::kList) || v.Is(Kind::kTuple);
}

bool EqualItems(Runtime& rt, const std::vector<Value>& left, const std::vector<Value>& right) {
  if (left.size() != right.size()) return false;
  for (size_t i = 0; i < left.size(); ++i) {
    if (!Equals(rt, left[i], right[i])) return false;
  }
  return true;
}

bool EqualDicts(Runtime& rt, const Dict& left, const Dict& right) {
  if (left.entries.size() != right.entries.size()) return false;
  for (const Dict::Entry& entry : left.entries) {
    const Value* found = FindEntry(rt, right, entry.key);
    if (found == nullptr || !Equals(rt, entry.value, *found)) return false;
  }
  return true;
}

// Below, equal or above: -1, 0, 1; empty where Python raises TypeError. NaN: 2, which satisfies no
// order.
std::optional<int> Order(Runtime& rt, const Value& left, const Value& right) {
  const DepthGuard guard(rt);
  if (!guard || !rt.Charge(1)) return 0;
  if (left.IsIntegral() && right.IsIntegral()) {
    return left.integer() < right.integer() ? -1 : left.integer() > right.integer() ? 1 : 0;
  }
  if (left.IsNumber() && right.IsNumber()) {
    const double a = left.number();
    const double b = right.number();
    return a < b ? -1 : a > b ? 1 : a == b ? 0 : 2;
  }
  if (left.IsString() && right.IsString()) {
    rt.ChargeBytes(std::min(left.string().size(), right.string().size()));
    const int order =
        left.string().bytes().compare(right.string().bytes());  // UTF-8 sorts as code points do
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if (left.kind() != right.kind() || !(left.Is(Kind::kList) || left.Is(Kind::kTuple)))
    return std::nullopt;
  const std::vector<Value>& a = left.sequence().items;
  const std::vector<Value>& b = right.sequence().items;
  for (size_t i = 0; i < a.size() && i < b.size() && !rt.failed(); ++i) {
    if (!Equals(rt, a[i], b[i])) return Order(rt, a[i], b[i]);
  }
  return a.size() < b.size() ? -1 : a.size() > b.size() ? 1 : 0;
}

}  // namespace

Value Arithmetic(Runtime& rt, ArithmeticOp op, const Value& left, const Value& right) {
  if (rt.failed()) return {};
  if (left.IsIntegral() && right.IsIntegral())
    return IntArithmetic(rt, op, left.integer(), right.integer());
  if (left.IsNumber() && right.IsNumber())
    return FloatArithmetic(rt, op, left.number(), right.number());
  if (op == ArithmeticOp::kAdd && IsRepeatable(left) && left.kind() == right.kind())
    return Join(rt, left, right);
  if (op == ArithmeticOp::kMul) {
    if (IsRepeatable(left) && right.IsIntegral()) return Repeat(rt, left, right.integer());
    if (IsRepeatable(right) && left.IsIntegral()) return Repeat(rt, right, left.integer());
  }
  if (op == ArithmeticOp::kMod && left.IsString()) return PercentFormat(rt, left.string(), right);
  return FailOperands(rt, op, left, right);
}

Value Negate(Runtime& rt, const Value& value) {
  if (value.IsIntegral()) return IntArithmetic(rt, ArithmeticOp::kSub, 0, value.integer());
  if (value.IsNumber()) return Value::Float(-value.number());
  if (value.IsUndefined()) return FailUndefined(rt, value);
  return rt.Fail(fmt::format("unary - does not apply to {}", TypeName(value)));
}

Value UnaryPlus(Runtime& rt, const Value& value) {
  if (value.IsIntegral()) return Value::Int(value.integer());
  if (value.IsNumber()) return value;
  if (value.IsUndefined()) return FailUndefined(rt, value);
  return rt.Fail(fmt::format("unary + does not apply to {}", TypeName(value)));
}

bool Equals(Runtime& rt, const Value& left, const Value& right) {
  const DepthGuard guard(rt);
  if (!guard || !rt.Charge(1)) return false;
  if (left.IsIntegral() && right.IsIntegral()) return left.integer() == right.integer();
  if (left.IsNumber() && right.IsNumber()) return left.number() == right.number();
  if (left.kind() != right.kind()) return false;
  switch (left.kind()) {
    case Kind::kString:
      rt.ChargeBytes(std::min(left.string().size(), right.string().size()));
      return left.string().bytes() == right.string().bytes();
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kRange:
      return EqualItems(rt, left.sequence().items, right.sequence().items);
    case Kind::kDict:
      return EqualDicts(rt, left.dict(), right.dict());
    default:
      return left.SameAs(right);
  }
}

bool Compare(Runtime& rt, CompareOp op, const Value& left, const Value& right) {
  if (rt.failed()) return false;
  switch (op) {
    case CompareOp::kEq:
      return Equals(rt, left, right);
    case CompareOp::kNe:
      return !Equals(rt, left, right);
    case CompareOp::kIn:
      return Contains(rt, right, left);
    case CompareOp::kNotIn:
      return !Contains(rt, right, left);
    default:
      break;
  }
  if (left.IsUndefined() || right.IsUndefined()) {
    FailUndefined(rt, left.IsUndefined() ? left : right);
    return false;
  }
  const std::optional<int> order = Order(rt, left, right);
  if (!order.has_value()) {
    rt.Fail(fmt::format("{} and {} have no order", TypeName(left), TypeName(right)));
    return false;
  }
  switch (op) {
    case CompareOp::kLt:
      return *order == -1;
    case CompareOp::kLe:
      return *order == -1 || *order == 0;
    case CompareOp::kGt:
      return *order == 1;
    default:
      return *order == 1 || *order == 0;
  }
}

}  // namespace sluice::jinja
