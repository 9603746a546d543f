// Values as text: Python's str() and repr(), the % operator and str.format.
#pragma once

#include <span>
#include <string>

#include "template/runtime.h"
#include "template/value.h"

namespace sluice::jinja {

// str(value). A string keeps its origins; any other value's text counts as the client's.
const TracedString& Text(Runtime& rt, const Value& value);
// The same as a Value: `value` itself where it is a string already.
Value TextValue(Runtime& rt, const Value& value);

// repr(value), as Python writes it.
std::string Repr(Runtime& rt, const Value& value);
[[nodiscard]] std::string FloatRepr(double value);

// "..." % argument: %s %r %d %i %u %f %e %g %x %X %o %c %%, with flags, width, precision and
// %(name)s.
Value PercentFormat(Runtime& rt, const TracedString& format, const Value& argument);
Value PercentFormat(Runtime& rt, const TracedString& format, std::span<const Value> values,
                    const Dict* named);

// "...".format(...): {}, {0}, {name}, each with !r or !s and a
// [[fill]align][sign][0][width][,][.precision][type] spec.
Value BraceFormat(Runtime& rt, const TracedString& format, const CallArgs& args);

}  // namespace sluice::jinja
