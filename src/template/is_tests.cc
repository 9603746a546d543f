// Jinja's tests: what `x is name` asks.
#include <fmt/format.h>

#include <array>
#include <cmath>

#include "template/filters.h"
#include "template/formatting.h"
#include "template/operators.h"
#include "template/text_functions.h"

namespace sluice::jinja {
namespace {

using Args = const CallArgs&;

Value IsDefined(Runtime&, const Value& v, Args) { return Value::Bool(!v.IsUndefined()); }
Value IsUndefinedTest(Runtime&, const Value& v, Args) { return Value::Bool(v.IsUndefined()); }
Value IsNoneTest(Runtime&, const Value& v, Args) { return Value::Bool(v.IsNone()); }
Value IsStringTest(Runtime&, const Value& v, Args) { return Value::Bool(v.IsString()); }
Value IsMapping(Runtime&, const Value& v, Args) { return Value::Bool(v.Is(Kind::kDict)); }
Value IsNumberTest(Runtime&, const Value& v, Args) { return Value::Bool(v.IsNumber()); }
Value IsInteger(Runtime&, const Value& v, Args) { return Value::Bool(v.Is(Kind::kInt)); }
Value IsFloat(Runtime&, const Value& v, Args) { return Value::Bool(v.Is(Kind::kFloat)); }
Value IsBoolean(Runtime&, const Value& v, Args) { return Value::Bool(v.Is(Kind::kBool)); }
Value IsTrueTest(Runtime&, const Value& v, Args) {
  return Value::Bool(v.Is(Kind::kBool) && v.boolean());
}
Value IsFalseTest(Runtime&, const Value& v, Args) {
  return Value::Bool(v.Is(Kind::kBool) && !v.boolean());
}

// An undefined value can be iterated, indexed and called in Python's eyes (the last two only raise
// when done).
Value IsIterable(Runtime&, const Value& v, Args) {
  return Value::Bool(v.IsSequence() || v.IsString() || v.Is(Kind::kDict) || v.IsUndefined() ||
                     v.Is(Kind::kLoop));
}
Value IsSequenceTest(Runtime&, const Value& v, Args) {
  const bool indexed = v.Is(Kind::kList) || v.Is(Kind::kTuple) || v.Is(Kind::kRange);
  return Value::Bool(indexed || v.IsString() || v.Is(Kind::kDict) || v.IsUndefined());
}
Value IsCallable(Runtime&, const Value& v, Args) {
  return Value::Bool(v.Is(Kind::kCallable) || v.IsUndefined() || v.Is(Kind::kLoop));
}

Value Remainder(Runtime& rt, const Value& v, int64_t divisor) {
  return Arithmetic(rt, ArithmeticOp::kMod, v, Value::Int(divisor));
}
Value IsOdd(Runtime& rt, const Value& v, Args) {
  return Value::Bool(Equals(rt, Remainder(rt, v, 2), Value::Int(1)));
}
Value IsEven(Runtime& rt, const Value& v, Args) {
  return Value::Bool(Equals(rt, Remainder(rt, v, 2), Value::Int(0)));
}
Value IsDivisibleBy(Runtime& rt, const Value& v, Args args) {
  return Value::Bool(Equals(rt, Arithmetic(rt, ArithmeticOp::kMod, v, args.at(0)), Value::Int(0)));
}
Value IsSameAs(Runtime&, const Value& v, Args args) { return Value::Bool(v.SameAs(args.at(0))); }
Value IsUpperTest(Runtime& rt, const Value& v, Args) {
  return Value::Bool(AllUpper(Text(rt, v).bytes()));
}
Value IsLowerTest(Runtime& rt, const Value& v, Args) {
  return Value::Bool(AllLower(Text(rt, v).bytes()));
}
Value IsFilter(Runtime& rt, const Value& v, Args) {
  return Value::Bool(FindFilter(Text(rt, v).bytes()) != nullptr);
}
Value IsTest(Runtime& rt, const Value& v, Args) {
  return Value::Bool(FindTest(Text(rt, v).bytes()) != nullptr);
}
Value IsEscaped(Runtime&, const Value&, Args) { return Value::Bool(false); }

template <CompareOp kOp>
Value ComparesTest(Runtime& rt, const Value& v, Args args) {
  return Value::Bool(Compare(rt, kOp, v, args.at(0)));
}

template <CompareOp kOp>
Builtin Comparison(std::string_view name) {
  return Builtin{name, ComparesTest<kOp>, {"other"}, 1};
}

const std::array kTests = {
    Builtin{"defined", IsDefined},
    Builtin{"undefined", IsUndefinedTest},
    Builtin{"none", IsNoneTest},
    Builtin{"string", IsStringTest},
    Builtin{"mapping", IsMapping},
    Builtin{"sequence", IsSequenceTest},
    Builtin{"iterable", IsIterable},
    Builtin{"number", IsNumberTest},
    Builtin{"integer", IsInteger},
    Builtin{"float", IsFloat},
    Builtin{"boolean", IsBoolean},
    Builtin{"true", IsTrueTest},
    Builtin{"false", IsFalseTest},
    Builtin{"callable", IsCallable},
    Builtin{"odd", IsOdd},
    Builtin{"even", IsEven},
    Builtin{"divisibleby", IsDivisibleBy, {"num"}, 1},
    Builtin{"sameas", IsSameAs, {"other"}, 1},
    Builtin{"upper", IsUpperTest},
    Builtin{"lower", IsLowerTest},
    Builtin{"filter", IsFilter},
    Builtin{"test", IsTest},
    Builtin{"escaped", IsEscaped},
    Comparison<CompareOp::kIn>("in"),
    Comparison<CompareOp::kEq>("equalto"),
    Comparison<CompareOp::kEq>("eq"),
    Comparison<CompareOp::kEq>("=="),
    Comparison<CompareOp::kNe>("ne"),
    Comparison<CompareOp::kNe>("!="),
    Comparison<CompareOp::kLt>("lt"),
    Comparison<CompareOp::kLt>("lessthan"),
    Comparison<CompareOp::kLt>("<"),
    Comparison<CompareOp::kLe>("le"),
    Comparison<CompareOp::kLe>("<="),
    Comparison<CompareOp::kGt>("gt"),
    Comparison<CompareOp::kGt>("greaterthan"),
    Comparison<CompareOp::kGt>(">"),
    Comparison<CompareOp::kGe>("ge"),
    Comparison<CompareOp::kGe>(">="),
};

}  // namespace

const Builtin* FindTest(std::string_view name) { return FindByName(kTests, name); }

}  // namespace sluice::jinja
