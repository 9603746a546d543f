// What Python's str methods do, on traced strings. Shared by methods and filters.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "template/runtime.h"
#include "template/value.h"

namespace sluice::jinja {

enum class Ends : uint8_t { kLeft = 1, kRight = 2, kBoth = 3 };

// chars: the set of code points to strip; Missing or None: white space.
Value Strip(Runtime& rt, const TracedString& text, const Value& chars, Ends ends);

Value Replace(Runtime& rt, const TracedString& text, const TracedString& from,
              const TracedString& to, int64_t count);

// separator None or Missing: runs of white space. max_splits < 0: no limit.
Value Split(Runtime& rt, const TracedString& text, const Value& separator, int64_t max_splits,
            bool from_right);

std::vector<TracedString> SplitLines(Runtime& rt, const TracedString& text, bool keep_ends);

// Strings (or, with stringify, any values) with the separator between them.
Value JoinText(Runtime& rt, const TracedString& separator, std::span<const Value> items,
               bool stringify);

// Each code point through `map`, which sees the code point before it too (0 at the start).
Value MapCodePoints(Runtime& rt, const TracedString& text,
                    const std::function<std::string(char32_t c, char32_t previous)>& map);

Value Upper(Runtime& rt, const TracedString& text);
Value Lower(Runtime& rt, const TracedString& text);
Value Capitalize(Runtime& rt, const TracedString& text);

// Pads to `width` code points; align is '<', '>' or '^'.
Value Justify(Runtime& rt, const TracedString& text, int64_t width, const TracedString& fill,
              char align);

// Whether text has letters with case and all of them are upper (lower).
[[nodiscard]] bool AllUpper(std::string_view text);
[[nodiscard]] bool AllLower(std::string_view text);

}  // namespace sluice::jinja
