#include "template/lexer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/status_macros.h"
#include "template/string_literal.h"
#include "template/unicode.h"

namespace sluice::jinja {
namespace {

// Line breaks become "\n" and one at the very end is dropped, as Jinja does before lexing.
std::string NormalizeLineBreaks(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out.push_back('\n');
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out.push_back(source[i]);
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool IsNameByte(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x80 || byte == '_' || (byte >= '0' && byte <= '9') ||
         ((byte | 0x20U) >= 'a' && (byte | 0x20U) <= 'z');
}

bool IsDigitByte(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string source) : source_(std::move(source)), text_(source_) {}

  absl::StatusOr<std::vector<Token>> Run() {
    while (at_ < text_.size()) RETURN_IF_ERROR(LexData());
    tokens_.push_back({TokenKind::kEnd, "", LineAt(text_.size())});
    return std::move(tokens_);
  }

 private:
  enum class Tag : uint8_t { kBlock, kVariable, kComment, kRaw };

  [[nodiscard]] bool StartsWith(size_t at, std::string_view what) const {
    return text_.substr(std::min(at, text_.size())).starts_with(what);
  }

  [[nodiscard]] size_t SkipSpace(size_t at) const {
    while (at < text_.size()) {
      const CodePoint c = DecodeAt(text_, at);
      if (!IsSpace(c.value)) break;
      at += c.num_bytes;
    }
    return at;
  }

  int LineAt(size_t at) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(line_at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(at), '\n'));
    line_at_ = at;
    return line_;
  }

  absl::Status Error(size_t at, std::string_view message) {
    line_ = 1;
    line_at_ = 0;
    return SyntaxError(LineAt(at), message);
  }

  void Push(TokenKind kind, std::string text, size_t at) {
    tokens_.push_back({kind, std::move(text), LineAt(at)});
  }

  // Moves past what was matched up to `end`; lstrip_blocks asks whether that ended a line.
  void MoveTo(size_t end) {
    if (end > at_) line_starting_ = text_[end - 1] == '\n';
    at_ = end;
  }

  // Text up to a tag: a '-' in the tag strips all white space before it; else, unless there is a
  // '+', white space between the start of the line and a block or comment goes.
  void PushData(size_t begin, size_t end, char sign, bool lstrip) {
    std::string_view data = text_.substr(begin, end - begin);
    if (sign == '-') {
      size_t keep = data.size();
      while (keep > 0) {
        const size_t previous = PreviousCodePoint(data, keep);
        if (!IsSpace(DecodeAt(data, previous).value)) break;
        keep = previous;
      }
      data = data.substr(0, keep);
    } else if (sign != '+' && lstrip) {
      const size_t line_begin = data.rfind('\n') + 1;  // npos + 1 is 0
      const bool at_line_start = line_begin > 0 || line_starting_;
      if (at_line_start && std::min(SkipSpace(begin + line_begin), end) == end)
        data = data.substr(0, line_begin);
    }
    if (!data.empty()) Push(TokenKind::kData, std::string(data), begin);
  }

  // Where the white space after a tag's end goes: all of it after '-', one line break after a plain
  // block end.
  [[nodiscard]] size_t AfterTag(size_t at, char sign, bool trim_line_break) const {
    if (sign == '-') return SkipSpace(at);
    if (sign != '+' && trim_line_break && StartsWith(at, "\n")) return at + 1;
    return at;
  }

  absl::Status LexData() {
    const size_t begin = at_;
    size_t tag = begin;
    while (true) {
      tag = std::min(text_.find('{', tag), text_.size());
      if (tag == text_.size() || StartsWith(tag, "{%") || StartsWith(tag, "{{") ||
          StartsWith(tag, "{#"))
        break;
      ++tag;
    }
    if (tag == text_.size()) {
      Push(TokenKind::kData, std::string(text_.substr(begin)), begin);
      at_ = tag;
      return absl::OkStatus();
    }
    size_t inside = tag + 2;
    const char sign = inside < text_.size() && (text_[inside] == '-' || text_[inside] == '+')
                          ? text_[inside++]
                          : '\0';
    const char kind = text_[tag + 1];
    PushData(begin, tag, sign, kind != '{');
    if (kind == '#') return LexComment(tag, inside);
    if (kind == '%') {
      if (const size_t raw_begin = RawTagEnd(inside); raw_begin != 0) {
        MoveTo(raw_begin);
        return LexRaw(tag);
      }
    }
    MoveTo(inside);
    Push(kind == '%' ? TokenKind::kBlockBegin : TokenKind::kVariableBegin, "", tag);
    return LexTag(tag, kind == '%');
  }

  absl::Status LexComment(size_t tag, size_t inside) {
    const size_t end = text_.find("#}", inside);
    if (end == std::string_view::npos) return Error(tag, "a comment has no end");
    const char sign =
        end > inside && (text_[end - 1] == '-' || text_[end - 1] == '+') ? text_[end - 1] : '\0';
    MoveTo(AfterTag(end + 2, sign, true));
    return absl::OkStatus();
  }

  // After "{% raw %}"; 0 if the block is another.
  [[nodiscard]] size_t RawTagEnd(size_t inside) const {
    const size_t word = SkipSpace(inside);
    if (!StartsWith(word, "raw")) return 0;
    const size_t end = SkipSpace(word + 3);
    if (StartsWith(end, "-%}")) return SkipSpace(end + 3);
    return StartsWith(end, "%}") ? end + 2 : 0;
  }

  absl::Status LexRaw(size_t tag) {
    const size_t begin = at_;
    for (size_t at = begin;; ++at) {
      at = text_.find("{%", at);
      if (at == std::string_view::npos) return Error(tag, "a raw block has no end");
      size_t inside = at + 2;
      const char sign = inside < text_.size() && (text_[inside] == '-' || text_[inside] == '+')
                            ? text_[inside++]
                            : '\0';
      const size_t word = SkipSpace(inside);
      if (!StartsWith(word, "endraw")) continue;
      size_t end = SkipSpace(word + 6);
      const char end_sign =
          end < text_.size() && (text_[end] == '-' || text_[end] == '+') ? text_[end++] : '\0';
      if (!StartsWith(end, "%}")) continue;
      PushData(begin, at, sign, true);
      MoveTo(AfterTag(end + 2, end_sign, true));
      return absl::OkStatus();
    }
  }

  // The end of the tag at at_, or 0. Inside open brackets "}}" closes two of them instead.
  [[nodiscard]] size_t TagEnd(bool block) const {
    const std::string_view close = block ? "%}" : "}}";
    if (StartsWith(at_, close)) return AfterTag(at_ + 2, '\0', block);
    const char sign = text_[at_];
    const bool signed_end = (sign == '-' || (sign == '+' && block)) && StartsWith(at_ + 1, close);
    return signed_end ? AfterTag(at_ + 3, sign, block) : 0;
  }

  absl::Status LexTag(size_t tag, bool block) {
    brackets_.clear();
    while (at_ < text_.size()) {
      const size_t end = brackets_.empty() ? TagEnd(block) : 0;
      if (end != 0) {
        Push(block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, "", at_);
        MoveTo(end);
        return absl::OkStatus();
      }
      const size_t after_space = SkipSpace(at_);
      if (after_space != at_) {
        MoveTo(after_space);
        continue;
      }
      RETURN_IF_ERROR(LexToken());
    }
    return Error(tag, block ? "a block tag has no end" : "an expression tag has no end");
  }

  absl::Status LexToken() {
    const char c = text_[at_];
    if (IsDigitByte(c)) return LexNumber();
    if (c == '\'' || c == '"') return LexString(c);
    if (IsNameByte(c)) {
      size_t end = at_;
      while (end < text_.size() && IsNameByte(text_[end])) ++end;
      Push(TokenKind::kName, std::string(text_.substr(at_, end - at_)), at_);
      MoveTo(end);
      return absl::OkStatus();
    }
    return LexOperator();
  }

  // Digits with single underscores between them, from `at`; the end.
  [[nodiscard]] size_t Digits(size_t at, bool (*digit)(char)) const {
    while (at < text_.size() && (digit(text_[at]) || (text_[at] == '_' && at + 1 < text_.size() &&
                                                      digit(text_[at + 1]))))
      ++at;
    return at;
  }

  absl::Status LexNumber() {
    const char second = at_ + 1 < text_.size() ? static_cast<char>(text_[at_ + 1] | 0x20) : '\0';
    size_t end = at_;
    bool is_float = false;
    if (text_[at_] == '0' && (second == 'x' || second == 'o' || second == 'b')) {
      end = Digits(
          at_ + 2,
          second == 'x'
              ? [](char c) { return IsDigitByte(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }
          : second == 'o' ? [](char c) { return c >= '0' && c <= '7'; }
                          : [](char c) { return c == '0' || c == '1'; });
      if (end == at_ + 2) end = at_ + 1;
    } else {
      end = Digits(at_, IsDigitByte);
      if (StartsWith(end, ".") && Digits(end + 1, IsDigitByte) > end + 1 && text_[end + 1] != '_' &&
          !AfterDot()) {
        is_float = true;
        end = Digits(end + 1, IsDigitByte);
      }
      if (end < text_.size() && (text_[end] | 0x20) == 'e' && !AfterDot()) {
        const size_t exponent =
            end + (StartsWith(end + 1, "+") || StartsWith(end + 1, "-") ? 2 : 1);
        if (exponent < text_.size() && IsDigitByte(text_[exponent])) {
          is_float = true;
          end = Digits(exponent, IsDigitByte);
        }
      }
      if (!is_float && text_[at_] == '0') {  // a plain zero may not lead other digits
        end = Digits(at_, [](char c) { return c == '0'; });
      }
    }
    std::string digits(text_.substr(at_, end - at_));
    std::erase(digits, '_');
    Push(is_float ? TokenKind::kFloat : TokenKind::kInteger, std::move(digits), at_);
    MoveTo(end);
    return absl::OkStatus();
  }

  [[nodiscard]] bool AfterDot() const { return at_ > 0 && text_[at_ - 1] == '.'; }

  absl::Status LexString(char quote) {
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) return Error(at_, "a string has no end");
    absl::StatusOr<std::string> value = UnescapeLiteral(text_.substr(at_ + 1, end - at_ - 1));
    if (!value.ok()) return Error(at_, std::string(value.status().message()));
    Push(TokenKind::kString, *std::move(value), at_);
    MoveTo(end + 1);
    return absl::OkStatus();
  }

  absl::Status LexOperator() {
    constexpr std::array<std::string_view, 26> kOperators = {
        "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto* op =
        std::find_if(kOperators.begin(), kOperators.end(),
                     [&](std::string_view candidate) { return StartsWith(at_, candidate); });
    if (op == kOperators.end()) return Error(at_, "unexpected character in a tag");
    const char c = op->front();
    if (c == '(' || c == '[' || c == '{')
      brackets_.push_back(c == '(' ? ')' : c == '[' ? ']' : '}');
    if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty() || brackets_.back() != c)
        return Error(at_, fmt::format("unexpected '{}'", c));
      brackets_.pop_back();
    }
    Push(TokenKind::kOperator, std::string(*op), at_);
    MoveTo(at_ + op->size());
    return absl::OkStatus();
  }

  const std::string source_;
  const std::string_view text_;
  std::vector<Token> tokens_;
  std::vector<char> brackets_;  // the closers that are due
  size_t at_ = 0;
  bool line_starting_ = true;
  int line_ = 1;
  size_t line_at_ = 0;
};

}  // namespace

absl::Status SyntaxError(int line, std::string_view message) {
  return absl::InvalidArgumentError(fmt::format("chat template line {}: {}", line, message));
}

absl::StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  return Lexer(NormalizeLineBreaks(source)).Run();
}

}  // namespace sluice::jinja
