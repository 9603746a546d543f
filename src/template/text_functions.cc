#include "template/text_functions.h"

#include <fmt/format.h>
#include <string.h>

#include <algorithm>

#include "template/formatting.h"
#include "template/operators.h"
#include "template/unicode.h"

namespace sluice::jinja {
namespace {

// Linear in the sum of the lengths, whatever the client sends (std::string_view::find may be
// quadratic).
size_t FindFrom(std::string_view text, std::string_view needle, size_t from) {
  const void* found = memmem(text.data() + from, text.size() - from, needle.data(), needle.size());
  if (found == nullptr) return std::string_view::npos;
  return static_cast<size_t>(static_cast<const char*>(found) - text.data());
}

std::u32string CodePointSet(std::string_view chars) {
  std::u32string set;
  for (size_t at = 0; at < chars.size();) {
    const CodePoint c = DecodeAt(chars, at);
    set.push_back(c.value);
    at += c.num_bytes;
  }
  return set;
}

// Collects pieces of one string as a list.
class Pieces {
 public:
  Pieces(Runtime& rt, const TracedString& text) : rt_(rt), text_(text) {}
  void Add(size_t begin, size_t end) { items_.push_back(rt_.NewString(text_.Substr(begin, end))); }
  Value TakeReversed() {
    std::reverse(items_.begin(), items_.end());
    return Take();
  }
  Value Take() { return rt_.failed() ? Value() : rt_.NewList(std::move(items_)); }
  [[nodiscard]] bool Full(int64_t max_splits) const {
    return rt_.failed() || (max_splits >= 0 && static_cast<int64_t>(items_.size()) >= max_splits);
  }

 private:
  Runtime& rt_;
  const TracedString& text_;
  std::vector<Value> items_;
};

Value SplitOnSpace(Runtime& rt, const TracedString& text, int64_t max_splits) {
  const std::string_view bytes = text.bytes();
  Pieces pieces(rt, text);
  size_t at = 0;
  const auto skip = [&](bool space) {
    while (at < bytes.size() && IsSpace(DecodeAt(bytes, at).value) == space)
      at += DecodeAt(bytes, at).num_bytes;
  };
  for (skip(true); at < bytes.size(); skip(true)) {
    const size_t begin = at;
    if (pieces.Full(max_splits)) {
      pieces.Add(begin, bytes.size());  // the rest keeps its trailing white space
      break;
    }
    skip(false);
    pieces.Add(begin, at);
  }
  return pieces.Take();
}

Value RightSplitOnSpace(Runtime& rt, const TracedString& text, int64_t max_splits) {
  const std::string_view bytes = text.bytes();
  Pieces pieces(rt, text);
  size_t end = bytes.size();
  const auto skip = [&](bool space) {
    while (end > 0) {
      const size_t previous = PreviousCodePoint(bytes, end);
      if (IsSpace(DecodeAt(bytes, previous).value) != space) return;
      end = previous;
    }
  };
  for (skip(true); end > 0; skip(true)) {
    const size_t stop = end;
    if (pieces.Full(max_splits)) {
      pieces.Add(0, stop);
      break;
    }
    skip(false);
    pieces.Add(end, stop);
  }
  return pieces.TakeReversed();
}

Value SplitOn(Runtime& rt, const TracedString& text, std::string_view separator,
              int64_t max_splits) {
  Pieces pieces(rt, text);
  size_t begin = 0;
  while (!pieces.Full(max_splits)) {
    const size_t found = FindFrom(text.bytes(), separator, begin);
    if (found == std::string_view::npos) break;
    pieces.Add(begin, found);
    begin = found + separator.size();
  }
  pieces.Add(begin, text.size());
  return pieces.Take();
}

Value RightSplitOn(Runtime& rt, const TracedString& text, std::string_view separator,
                   int64_t max_splits) {
  Pieces pieces(rt, text);
  size_t end = text.size();
  size_t at = end;
  while (!pieces.Full(max_splits) && at >= separator.size() && rt.ChargeBytes(separator.size())) {
    if (text.bytes().substr(at - separator.size(), separator.size()) != separator) {
      if (at == separator.size()) break;
      --at;
      continue;
    }
    pieces.Add(at, end);
    end = at - separator.size();
    at = end;
  }
  pieces.Add(0, end);
  return pieces.TakeReversed();
}

bool AllCased(std::string_view text, bool (*wanted)(char32_t), bool (*unwanted)(char32_t)) {
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = DecodeAt(text, at);
    if (unwanted(c.value)) return false;
    any = any || wanted(c.value);
    at += c.num_bytes;
  }
  return any;
}

}  // namespace

Value Strip(Runtime& rt, const TracedString& text, const Value& chars, Ends ends) {
  if (!rt.ChargeBytes(text.size())) return {};
  const bool space = chars.IsMissing() || chars.IsNone();
  if (!space && !chars.IsString())
    return rt.Fail(fmt::format("characters to strip must be a str, not {}", TypeName(chars)));
  const std::u32string set = space ? std::u32string() : CodePointSet(chars.string().bytes());
  const int64_t cost_per_char = static_cast<int64_t>(set.size() / 16) + 1;
  const auto strips = [&](char32_t c) {
    return space ? IsSpace(c) : set.find(c) != std::u32string::npos;
  };
  const std::string_view bytes = text.bytes();
  size_t begin = 0;
  size_t end = bytes.size();
  while ((static_cast<int>(ends) & static_cast<int>(Ends::kLeft)) != 0 && begin < end) {
    const CodePoint c = DecodeAt(bytes, begin);
    if (!strips(c.value) || (!space && !rt.Charge(cost_per_char))) break;
    begin += c.num_bytes;
  }
  while ((static_cast<int>(ends) & static_cast<int>(Ends::kRight)) != 0 && begin < end) {
    const size_t previous = PreviousCodePoint(bytes, end);
    if (!strips(DecodeAt(bytes, previous).value) || (!space && !rt.Charge(cost_per_char))) break;
    end = previous;
  }
  return rt.NewString(text.Substr(begin, end));
}

Value Replace(Runtime& rt, const TracedString& text, const TracedString& from,
              const TracedString& to, int64_t count) {
  if (!rt.ChargeBytes(text.size() + from.size())) return {};
  const std::string_view bytes = text.bytes();
  TracedString out;
  size_t at = 0;
  for (int64_t done = 0; count < 0 || done < count; ++done) {
    if (from.empty()) {  // Python inserts before each character and at the end
      if (done > 0 && at >= bytes.size()) break;
      const size_t next = done == 0 ? 0 : at + DecodeAt(bytes, at).num_bytes;
      out.Append(text, at, next);
      at = next;
    } else {
      const size_t found = FindFrom(bytes, from.bytes(), at);
      if (found == std::string_view::npos) break;
      out.Append(text, at, found);
      at = found + from.size();
    }
    if (!rt.Room(to.size()) ||
        (out.size() + to.size() > static_cast<size_t>(rt.limits().max_output_bytes) &&
         !rt.Room(out.size() + to.size()))) {
      return {};
    }
    out.Append(to);
  }
  out.Append(text, at, text.size());
  return rt.NewString(std::move(out));
}

Value Split(Runtime& rt, const TracedString& text, const Value& separator, int64_t max_splits,
            bool from_right) {
  if (!rt.ChargeBytes(text.size())) return {};
  if (separator.IsMissing() || separator.IsNone()) {
    return from_right ? RightSplitOnSpace(rt, text, max_splits)
                      : SplitOnSpace(rt, text, max_splits);
  }
  if (!separator.IsString())
    return rt.Fail(fmt::format("a separator must be a str, not {}", TypeName(separator)));
  const std::string_view bytes = separator.string().bytes();
  if (bytes.empty()) return rt.Fail("a separator must not be empty");
  return from_right ? RightSplitOn(rt, text, bytes, max_splits)
                    : SplitOn(rt, text, bytes, max_splits);
}

std::vector<TracedString> SplitLines(Runtime& rt, const TracedString& text, bool keep_ends) {
  std::vector<TracedString> lines;
  const std::string_view bytes = text.bytes();
  if (!rt.ChargeBytes(bytes.size())) return lines;
  for (size_t begin = 0; begin < bytes.size() && rt.RoomForItems(3);) {
    size_t end = begin;
    CodePoint c = DecodeAt(bytes, end);
    while (!IsLineBreak(c.value)) {
      end += c.num_bytes;
      if (end == bytes.size()) break;
      c = DecodeAt(bytes, end);
    }
    size_t next = end == bytes.size() ? end : end + c.num_bytes;
    if (c.value == '\r' && end < bytes.size() && next < bytes.size() && bytes[next] == '\n') ++next;
    lines.push_back(text.Substr(begin, keep_ends ? next : end));
    begin = next;
  }
  return lines;
}

Value JoinText(Runtime& rt, const TracedString& separator, std::span<const Value> items,
               bool stringify) {
  TracedString out;
  for (size_t i = 0; i < items.size() && rt.Charge(1); ++i) {
    if (!stringify && !items[i].IsString()) {
      return rt.Fail(fmt::format("join() needs strings, not {}", TypeName(items[i])));
    }
    const TracedString& text = Text(rt, items[i]);
    if (!rt.ChargeBytes(text.size() + separator.size())) return {};
    const size_t total = out.size() + separator.size() + text.size();
    if (total > static_cast<size_t>(rt.limits().max_output_bytes) && !rt.Room(total)) return {};
    if (i > 0) out.Append(separator);
    out.Append(text);
  }
  return rt.NewString(std::move(out));
}

Value MapCodePoints(Runtime& rt, const TracedString& text,
                    const std::function<std::string(char32_t, char32_t)>& map) {
  if (!rt.ChargeBytes(4 * text.size())) return {};
  TracedString out;
  char32_t previous = 0;
  text.ForEachRun([&](std::string_view run, Origin origin) {
    std::string mapped;
    for (size_t at = 0; at < run.size();) {
      const CodePoint c = DecodeAt(run, at);
      const bool invalid = c.num_bytes == 1 && c.value >= 0x80;
      mapped += invalid ? std::string(run.substr(at, 1)) : map(c.value, previous);
      previous = c.value;
      at += c.num_bytes;
    }
    out.Append(mapped, origin);
  });
  return rt.NewString(std::move(out));
}

Value Upper(Runtime& rt, const TracedString& text) {
  return MapCodePoints(rt, text, [](char32_t c, char32_t) { return UpperOf(c); });
}

Value Lower(Runtime& rt, const TracedString& text) {
  return MapCodePoints(rt, text, [](char32_t c, char32_t) { return LowerOf(c); });
}

Value Capitalize(Runtime& rt, const TracedString& text) {
  bool first = true;
  return MapCodePoints(rt, text, [&first](char32_t c, char32_t) {
    const bool upper = first;
    first = false;
    return upper ? UpperOf(c) : LowerOf(c);
  });
}

Value Justify(Runtime& rt, const TracedString& text, int64_t width, const TracedString& fill,
              char align) {
  if (CountCodePoints(fill.bytes()) != 1) return rt.Fail("a fill must be one character");
  const auto length = static_cast<int64_t>(CountCodePoints(text.bytes()));
  const int64_t missing = width > length ? width - length : 0;
  if (missing > rt.limits().max_output_bytes ||
      !rt.Room(text.size() + static_cast<size_t>(missing) * fill.size())) {
    return rt.FailLimit("a padded string is too long");
  }
  // str.center puts the odd blank to the left only if both the gap and the width are odd.
  const int64_t left = align == '<'   ? 0
                       : align == '>' ? missing
                                      : missing / 2 + (missing & width & 1);
  TracedString out;
  for (int64_t i = 0; i < left; ++i) out.Append(fill);
  out.Append(text);
  for (int64_t i = left; i < missing; ++i) out.Append(fill);
  return rt.NewString(std::move(out));
}

bool AllUpper(std::string_view text) { return AllCased(text, IsUpper, IsLower); }
bool AllLower(std::string_view text) { return AllCased(text, IsLower, IsUpper); }

}  // namespace sluice::jinja
