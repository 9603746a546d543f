#include "model/hf_tokenizer_stages.h"

#include <fmt/format.h>

#include <boost/json/array.hpp>
#include <boost/json/string.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "base/status_macros.h"
#include "model/tensor_table.h"

namespace sluice {
namespace {

namespace json = boost::json;

constexpr size_t kMaxParts = 64;  // of a Sequence; published ones have up to 7

// The elements of an array of objects.
absl::StatusOr<std::vector<HfObject>> Objects(const HfObject& in, std::string_view key) {
  std::vector<HfObject> out;
  const json::value* value = in.Find(key);
  if (value == nullptr) return out;
  if (!value->is_array()) return in.KeyError(key, "is not an array");
  const json::array& array = value->get_array();
  if (array.size() > kMaxParts) {
    return in.KeyError(
        key, fmt::format("has {} elements; at most {} are allowed", array.size(), kMaxParts));
  }
  for (const json::value& element : array) {
    if (!element.is_object()) return in.KeyError(key, "has an element that is not an object");
    out.emplace_back(in.source(), element.get_object(), std::string(key) + ".");
  }
  return out;
}

absl::Status UnsupportedType(const HfObject& in, std::string_view type) {
  return in.Unsupported("type",
                        fmt::format("is '{}', which is not supported", QuoteForMessage(type)));
}

// {"String": "x"} or {"Regex": "x"}.
struct Pattern {
  std::string text;
  bool is_regex = false;
};

absl::StatusOr<Pattern> ReadPattern(const HfObject& in) {
  ASSIGN_OR_RETURN(const HfObject pattern, in.GetObject("pattern"));
  const bool is_regex = pattern.Has("Regex");
  ASSIGN_OR_RETURN(const std::string_view text, pattern.GetString(is_regex ? "Regex" : "String"));
  return Pattern{std::string(text), is_regex};
}

absl::StatusOr<NormalizerStep> ReadReplace(const HfObject& in) {
  ASSIGN_OR_RETURN(const Pattern pattern, ReadPattern(in));
  ASSIGN_OR_RETURN(const std::string_view content, in.GetString("content"));
  NormalizerStep step = {.kind = NormalizerStep::Kind::kReplace,
                         .pattern = pattern.text,
                         .content = std::string(content)};
  if (!pattern.is_regex) return step;
  if (pattern.text != " {2,}") {
    return in.Unsupported("pattern", fmt::format("replaces the expression '{}', which is not "
                                                 "supported",
                                                 QuoteForMessage(pattern.text)));
  }
  step.kind = NormalizerStep::Kind::kCollapse;
  return step;
}

absl::StatusOr<NormalizerStep> ReadBertNormalizer(const HfObject& in) {
  NormalizerStep step = {.kind = NormalizerStep::Kind::kBert};
  ASSIGN_OR_RETURN(step.clean_text, in.GetBoolOr("clean_text", true));
  ASSIGN_OR_RETURN(step.space_chinese, in.GetBoolOr("handle_chinese_chars", true));
  ASSIGN_OR_RETURN(step.lowercase, in.GetBoolOr("lowercase", true));
  ASSIGN_OR_RETURN(step.strip_accents, in.GetBoolOr("strip_accents", step.lowercase));
  return step;
}

absl::StatusOr<NormalizerStep> ReadCharsMap(const HfObject& in) {
  ASSIGN_OR_RETURN(const std::string_view encoded, in.GetString("precompiled_charsmap"));
  NormalizerStep step = {.kind = NormalizerStep::Kind::kCharsMap};
  if (!absl::Base64Unescape({encoded.data(), encoded.size()}, &step.content)) {
    return in.KeyError("precompiled_charsmap", "is not base64");
  }
  return step;
}

absl::Status AddNormalizer(const HfObject& in, int depth, std::vector<NormalizerStep>& steps) {
  using Kind = NormalizerStep::Kind;
  ASSIGN_OR_RETURN(const std::string_view type, in.GetString("type"));
  if (type == "Sequence") {
    if (depth > 4) return in.KeyError("type", "is 'Sequence' more than 4 deep");
    ASSIGN_OR_RETURN(const std::vector<HfObject> parts, Objects(in, "normalizers"));
    for (const HfObject& part : parts) RETURN_IF_ERROR(AddNormalizer(part, depth + 1, steps));
    return absl::OkStatus();
  }
  constexpr std::pair<std::string_view, Kind> kPlain[] = {{"NFC", Kind::kNfc},
                                                          {"NFD", Kind::kNfd},
                                                          {"NFKC", Kind::kNfkc},
                                                          {"NFKD", Kind::kNfkd},
                                                          {"Lowercase", Kind::kLowercase},
                                                          {"StripAccents", Kind::kStripAccents}};
  for (const auto& [name, kind] : kPlain) {
    if (type != name) continue;
    steps.push_back({.kind = kind});
    return absl::OkStatus();
  }
  NormalizerStep step;
  if (type == "Replace") {
    ASSIGN_OR_RETURN(step, ReadReplace(in));
  } else if (type == "BertNormalizer") {
    ASSIGN_OR_RETURN(step, ReadBertNormalizer(in));
  } else if (type == "Precompiled") {
    ASSIGN_OR_RETURN(step, ReadCharsMap(in));
  } else if (type == "Prepend") {
    ASSIGN_OR_RETURN(const std::string_view text, in.GetString("prepend"));
    step = {.kind = Kind::kPrepend, .content = std::string(text)};
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    ASSIGN_OR_RETURN(step.strip_left, in.GetBoolOr("strip_left", true));
    ASSIGN_OR_RETURN(step.strip_right, in.GetBoolOr("strip_right", true));
  } else {
    return UnsupportedType(in, type);
  }
  steps.push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<PreTokenizerStep> ReadSplit(const HfObject& in) {
  ASSIGN_OR_RETURN(const Pattern pattern, ReadPattern(in));
  ASSIGN_OR_RETURN(const std::string_view behavior, in.GetString("behavior"));
  ASSIGN_OR_RETURN(const bool invert, in.GetBoolOr("invert", false));
  PreTokenizerStep step = {.kind = PreTokenizerStep::Kind::kRegex, .pattern = pattern.text};
  if (!pattern.is_regex) {
    step.kind = PreTokenizerStep::Kind::kString;
    return step;
  }
  step.removes_gaps = behavior == "Removed" && invert;
  if (behavior != "Isolated" && !step.removes_gaps) {
    return in.Unsupported("behavior",
                          fmt::format("is '{}' with an expression, which is not supported",
                                      QuoteForMessage(behavior)));
  }
  return step;
}

absl::StatusOr<PreTokenizerStep> ReadMetaspace(const HfObject& in) {
  using Prepend = PreTokenizerStep::Prepend;
  PreTokenizerStep step = {.kind = PreTokenizerStep::Kind::kMetaspace};
  ASSIGN_OR_RETURN(const std::string_view mark, in.GetStringOr("replacement", "\u2581"));
  step.pattern = mark;
  ASSIGN_OR_RETURN(step.split, in.GetBoolOr("split", true));
  ASSIGN_OR_RETURN(const bool prefix, in.GetBoolOr("add_prefix_space", true));
  ASSIGN_OR_RETURN(const std::string_view scheme,
                   in.GetStringOr("prepend_scheme", prefix ? "always" : "never"));
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    return in.KeyError("prepend_scheme", "is none of always, first and never");
  }
  step.prepend = scheme == "always"  ? Prepend::kAlways
                 : scheme == "first" ? Prepend::kFirst
                                     : Prepend::kNever;
  return step;
}

absl::Status AddPreTokenizer(const HfObject& in, int depth, std::vector<PreTokenizerStep>& steps) {
  using Kind = PreTokenizerStep::Kind;
  ASSIGN_OR_RETURN(const std::string_view type, in.GetString("type"));
  if (type == "Sequence") {
    if (depth > 4) return in.KeyError("type", "is 'Sequence' more than 4 deep");
    ASSIGN_OR_RETURN(const std::vector<HfObject> parts, Objects(in, "pretokenizers"));
    for (const HfObject& part : parts) RETURN_IF_ERROR(AddPreTokenizer(part, depth + 1, steps));
    return absl::OkStatus();
  }
  PreTokenizerStep step;
  if (type == "Split") {
    ASSIGN_OR_RETURN(step, ReadSplit(in));
  } else if (type == "Metaspace") {
    ASSIGN_OR_RETURN(step, ReadMetaspace(in));
  } else if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
    ASSIGN_OR_RETURN(step.prefix_space, in.GetBoolOr("add_prefix_space", true));
    ASSIGN_OR_RETURN(step.use_regex, in.GetBoolOr("use_regex", true));
  } else if (type == "Digits") {
    step.kind = Kind::kDigits;
    ASSIGN_OR_RETURN(step.single, in.GetBoolOr("individual_digits", false));
  } else if (type == "Punctuation") {
    step.kind = Kind::kPunctuation;
    ASSIGN_OR_RETURN(const std::string_view behavior, in.GetStringOr("behavior", "Isolated"));
    step.single = behavior == "Isolated";
    if (!step.single && behavior != "Contiguous") return UnsupportedType(in, behavior);
  } else if (type == "BertPreTokenizer") {
    step.kind = Kind::kBert;
  } else if (type == "Whitespace") {
    step.kind = Kind::kWhitespace;
  } else if (type == "WhitespaceSplit") {
    step.kind = Kind::kWhitespaceSplit;
  } else {
    return UnsupportedType(in, type);
  }
  steps.push_back(std::move(step));
  return absl::OkStatus();
}

absl::Status AddDecoder(const HfObject& in, int depth, DecoderRule& rule) {
  using Kind = DecoderRule::Kind;
  ASSIGN_OR_RETURN(const std::string_view type, in.GetString("type"));
  if (type == "Sequence") {
    if (depth > 4) return in.KeyError("type", "is 'Sequence' more than 4 deep");
    ASSIGN_OR_RETURN(const std::vector<HfObject> parts, Objects(in, "decoders"));
    for (const HfObject& part : parts) RETURN_IF_ERROR(AddDecoder(part, depth + 1, rule));
    return absl::OkStatus();
  }
  if (type == "Fuse" || type == "ByteFallback")
    return absl::OkStatus();  // how bytes join, not what
  if (type == "ByteLevel") {
    rule.kind = Kind::kByteLevel;
  } else if (type == "Metaspace") {
    ASSIGN_OR_RETURN(const PreTokenizerStep space, ReadMetaspace(in));
    rule.kind = Kind::kSpaceMark;
    rule.mark = space.pattern;
    rule.strip_first_marks = space.prepend != PreTokenizerStep::Prepend::kNever;
  } else if (type == "WordPiece") {
    rule.kind = Kind::kWordPiece;
    ASSIGN_OR_RETURN(const std::string_view prefix, in.GetStringOr("prefix", "##"));
    rule.mark = prefix;
    ASSIGN_OR_RETURN(rule.cleanup, in.GetBoolOr("cleanup", true));
  } else if (type == "Replace") {
    ASSIGN_OR_RETURN(const Pattern pattern, ReadPattern(in));
    ASSIGN_OR_RETURN(const std::string_view content, in.GetString("content"));
    if (pattern.is_regex || content != " " || pattern.text.empty()) {
      return in.Unsupported("content", "is not a space for a mark, which is not supported");
    }
    rule.kind = Kind::kSpaceMark;
    rule.mark = pattern.text;
  } else if (type == "Strip") {
    ASSIGN_OR_RETURN(const std::string_view content, in.GetStringOr("content", " "));
    ASSIGN_OR_RETURN(const int64_t start, in.GetIntOr("start", 0, 1 << 20, 0));
    ASSIGN_OR_RETURN(const int64_t stop, in.GetIntOr("stop", 0, 1 << 20, 0));
    if (content != " " || start > 1 || stop != 0) {
      return in.Unsupported("start", "strips more than one space, which is not supported");
    }
    rule.strip_first_space = start == 1;
  } else {
    return UnsupportedType(in, type);
  }
  return absl::OkStatus();
}

// One list of a TemplateProcessing: [{"SpecialToken":{"id":"[CLS]","type_id":0}}, {"Sequence":…}].
absl::StatusOr<std::vector<TemplatePiece>> ReadPieces(const HfObject& in, std::string_view key,
                                                      const FindToken& find) {
  using Kind = TemplatePiece::Kind;
  std::vector<TemplatePiece> pieces;
  ASSIGN_OR_RETURN(const std::vector<HfObject> parts, Objects(in, key));
  for (const HfObject& part : parts) {
    TemplatePiece piece;
    const bool is_text = part.Has("Sequence");
    ASSIGN_OR_RETURN(const HfObject inner, part.GetObject(is_text ? "Sequence" : "SpecialToken"));
    ASSIGN_OR_RETURN(const std::string_view id, inner.GetString("id"));
    ASSIGN_OR_RETURN(const int64_t type_id, inner.GetIntOr("type_id", 0, 255, 0));
    piece.type_id = static_cast<uint8_t>(type_id);
    if (is_text) {
      piece.kind = id == "B" ? Kind::kSecond : Kind::kFirst;
    } else {
      piece.token = find(id);
      if (piece.token < 0) return inner.KeyError("id", "names a token that is not there");
    }
    pieces.push_back(piece);
  }
  return pieces;
}

// BertProcessing and RobertaProcessing: {"sep":["</s>",2],"cls":["<s>",0]}.
absl::Status ReadClsSep(const HfObject& in, bool roberta, const FindToken& find,
                        TokenizerData& data) {
  using Kind = TemplatePiece::Kind;
  const auto token = [&](std::string_view key) -> absl::StatusOr<TemplatePiece> {
    const json::value* value = in.Find(key);
    const bool fits = value != nullptr && value->is_array() && !value->get_array().empty() &&
                      value->get_array()[0].is_string();
    if (!fits) return in.KeyError(key, "is not a token and its id");
    const json::string& text = value->get_array()[0].get_string();
    const TokenId id = find({text.data(), text.size()});
    if (id < 0) return in.KeyError(key, "names a token that is not there");
    return TemplatePiece{.token = id};
  };
  ASSIGN_OR_RETURN(const TemplatePiece cls, token("cls"));
  ASSIGN_OR_RETURN(TemplatePiece sep, token("sep"));
  data.single = {cls, {.kind = Kind::kFirst}, sep};
  data.pair = data.single;
  if (roberta) data.pair.push_back(sep);
  const uint8_t second = roberta ? 0 : 1;
  data.pair.push_back({.kind = Kind::kSecond, .type_id = second});
  sep.type_id = second;
  data.pair.push_back(sep);
  return absl::OkStatus();
}

absl::Status AddPostProcessor(const HfObject& in, int depth, const FindToken& find,
                              TokenizerData& data) {
  ASSIGN_OR_RETURN(const std::string_view type, in.GetString("type"));
  if (type == "Sequence") {
    if (depth > 4) return in.KeyError("type", "is 'Sequence' more than 4 deep");
    ASSIGN_OR_RETURN(const std::vector<HfObject> parts, Objects(in, "processors"));
    for (const HfObject& part : parts) {
      RETURN_IF_ERROR(AddPostProcessor(part, depth + 1, find, data));
    }
    return absl::OkStatus();
  }
  if (type == "ByteLevel") return absl::OkStatus();  // offsets only
  if (type == "BertProcessing") return ReadClsSep(in, false, find, data);
  if (type == "RobertaProcessing") return ReadClsSep(in, true, find, data);
  if (type != "TemplateProcessing") return UnsupportedType(in, type);
  ASSIGN_OR_RETURN(data.single, ReadPieces(in, "single", find));
  ASSIGN_OR_RETURN(data.pair, ReadPieces(in, "pair", find));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadHfNormalizer(const HfObject& root, TokenizerData& data) {
  if (!root.Has("normalizer")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const HfObject part, root.GetObject("normalizer"));
  return AddNormalizer(part, 0, data.normalizer);
}

absl::Status ReadHfPreTokenizer(const HfObject& root, TokenizerData& data) {
  if (!root.Has("pre_tokenizer")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const HfObject part, root.GetObject("pre_tokenizer"));
  return AddPreTokenizer(part, 0, data.pre_tokenizer_steps);
}

absl::Status ReadHfDecoder(const HfObject& root, TokenizerData& data) {
  if (!root.Has("decoder")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const HfObject part, root.GetObject("decoder"));
  return AddDecoder(part, 0, data.decoder);
}

absl::Status ReadHfPostProcessor(const HfObject& root, const FindToken& find, TokenizerData& data) {
  if (!root.Has("post_processor")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const HfObject part, root.GetObject("post_processor"));
  return AddPostProcessor(part, 0, find, data);
}

}  // namespace sluice
