// A parsed template. Built by the parser, read by the interpreter, immutable in between.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "template/operators.h"
#include "template/runtime.h"
#include "template/value.h"

namespace sluice::jinja {

// Variables by number: equal names have equal ids within one template.
using NameId = uint32_t;

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Arguments {
  std::vector<ExpressionPtr> positional;
  std::vector<std::pair<const std::string*, ExpressionPtr>> keywords;
  ExpressionPtr star;         // *list, or null
  ExpressionPtr double_star;  // **dict, or null
};

enum class ExpressionKind : uint8_t {
  kConstant,   // constant
  kName,       // name
  kList,       // children
  kTuple,      // children
  kDict,       // children: key, value, key, value, ...
  kAttribute,  // children[0] . *text
  kItem,       // children[0] [ children[1] ]
  kSlice,     // children[0] [ children[1] : children[2] : children[3] ], the last three may be null
  kCall,      // children[0] ( arguments )
  kFilter,    // children[0] | *text ( arguments ); children[0] is null in filter blocks
  kTest,      // children[0] is [not] *text ( arguments )
  kNot,       // children[0]
  kNegative,  // children[0]
  kPositive,  // children[0]
  kAnd,       // children, left to right
  kOr,        // children
  kConcat,    // children ~ children ~ ...
  kArithmetic,    // children[0] arithmetic[0] children[1] arithmetic[1] ..., left to right
  kCompare,       // children[0] comparisons[0] children[1] ..., a chain as in Python
  kConditional,   // children[0] if children[1] else children[2] (may be null)
  kNamespaceRef,  // name . *text, only as a target
};

// One struct for all kinds: the parser makes them, two functions read them, and a template has a
// few hundred.
struct Expression {
  ExpressionKind kind = ExpressionKind::kConstant;
  bool negated = false;
  int line = 1;
  int32_t height =
      1;  // of the tree below; bounded by the parser, so that recursion over it is bounded
  NameId name = 0;
  const std::string* text = nullptr;
  const Builtin* builtin = nullptr;  // filters and tests: null if there is none of that name
  Value constant;
  std::vector<ExpressionPtr> children;
  std::vector<ArithmeticOp> arithmetic;
  std::vector<CompareOp> comparisons;
  std::unique_ptr<Arguments> arguments;  // null: none
};

struct Statement;
using StatementPtr = std::unique_ptr<Statement>;
using Body = std::vector<StatementPtr>;

struct Macro {
  const std::string* name = nullptr;
  struct Parameter {
    NameId name = 0;
    const std::string* text = nullptr;
    ExpressionPtr fallback;  // null: none
  };
  std::vector<Parameter> parameters;
  bool uses_caller = false;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  Body body;
};

enum class StatementKind : uint8_t {
  kText,         // text
  kPrint,        // expression
  kIf,           // branches
  kFor,          // target in expression [if condition]: body, else otherwise
  kSet,          // target = expression
  kSetBlock,     // target = body, through expression (a filter chain) if not null
  kMacro,        // macro
  kCallBlock,    // expression (a call) with macro as caller
  kFilterBlock,  // body through expression
  kWith,         // assignments, body
  kScope,        // body in a scope of its own ({% generation %})
  kBlock,        // body in a scope that sees only the template's top level
  kBreak,
  kContinue,
};

struct Statement {
  StatementKind kind = StatementKind::kText;
  int line = 1;
  bool recursive = false;
  TracedString text;
  ExpressionPtr expression;
  ExpressionPtr target;
  ExpressionPtr condition;
  Body body;
  Body otherwise;
  struct Branch {
    ExpressionPtr condition;  // null: else
    Body body;
  };
  std::vector<Branch> branches;
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> assignments;
  std::unique_ptr<Macro> macro;
};

// The names every template knows without spelling them.
enum WellKnownName : NameId {
  kLoopName,
  kCallerName,
  kVarargsName,
  kKwargsName,
  kBosName,
  kEosName,
  kNumWellKnownNames
};

struct Template {
  std::deque<TracedString> literals;
  std::deque<std::string> names;  // by NameId; pointers to them stay valid
  std::map<std::string_view, NameId> ids;
  Body body;

  NameId Intern(std::string_view name);
};

}  // namespace sluice::jinja
