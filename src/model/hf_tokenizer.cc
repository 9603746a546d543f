#include "model/hf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/array.hpp>
#include <boost/json/string.hpp>
#include <filesystem>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status_macros.h"
#include "model/hf_json.h"
#include "model/hf_tokenizer_stages.h"
#include "model/model_limits.h"
#include "model/tensor_table.h"

namespace sluice {
namespace {

namespace json = boost::json;

constexpr int64_t kMaxTokenizerBytes = 256 << 20;  // Gemma 3's has 33 MB
constexpr int64_t kMaxConfigBytes = 16 << 20;

std::string_view View(const json::string& text) { return {text.data(), text.size()}; }

// Reads one tokenizer.json; the vocabulary is data_.tokens.
class Reader {
 public:
  Reader(const HfObject& root, int32_t vocab_size) : root_(root), vocab_size_(vocab_size) {}

  absl::StatusOr<TokenizerData> Read();
  [[nodiscard]] TokenId Find(std::string_view token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? -1 : found->second;
  }

 private:
  absl::Status SetToken(const HfObject& in, std::string_view key, int64_t id,
                        std::string_view token);
  absl::Status ReadModel(const HfObject& model);
  absl::Status ReadVocabObject(const HfObject& model);
  absl::Status ReadUnigram(const HfObject& model);
  absl::Status ReadBpe(const HfObject& model);
  absl::Status ReadMerges(const HfObject& model);
  absl::Status AddMerge(const HfObject& model, size_t rank, std::string_view left,
                        std::string_view right);
  absl::Status ReadAddedTokens();
  void FinishMerges();

  const HfObject& root_;
  const int32_t vocab_size_;
  TokenizerData data_;
  // Views of the JSON's own strings: those of data_.tokens may move.
  std::unordered_map<std::string_view, TokenId> ids_;
};

absl::Status Reader::SetToken(const HfObject& in, std::string_view key, int64_t id,
                              std::string_view token) {
  if (id < 0 || id >= vocab_size_) {
    return in.KeyError(key, fmt::format("gives token '{}' the id {}; the model has {} tokens",
                                        QuoteForMessage(token), id, vocab_size_));
  }
  data_.tokens[id] = token;
  data_.types[id] = TokenType::kNormal;
  ids_[token] = static_cast<TokenId>(id);
  return absl::OkStatus();
}

absl::Status Reader::ReadVocabObject(const HfObject& model) {
  ASSIGN_OR_RETURN(const HfObject vocab, model.GetObject("vocab"));
  ids_.reserve(vocab.object().size());
  for (const auto& [token, id] : vocab.object()) {
    if (!id.is_int64()) return model.KeyError("vocab", "has an id that is not an integer");
    RETURN_IF_ERROR(SetToken(model, "vocab", id.get_int64(), token));
  }
  return absl::OkStatus();
}

absl::Status Reader::ReadUnigram(const HfObject& model) {
  data_.model = "t5";
  const json::value* vocab = model.Find("vocab");
  if (vocab == nullptr || !vocab->is_array()) return model.KeyError("vocab", "is not an array");
  data_.scores.assign(data_.tokens.size(), 0);
  int64_t id = 0;
  for (const json::value& entry : vocab->get_array()) {
    const bool pair = entry.is_array() && entry.get_array().size() == 2 &&
                      entry.get_array()[0].is_string() && entry.get_array()[1].is_number();
    if (!pair) return model.KeyError("vocab", fmt::format("has no token and score at {}", id));
    RETURN_IF_ERROR(SetToken(model, "vocab", id, View(entry.get_array()[0].get_string())));
    data_.scores[static_cast<size_t>(id)] = entry.get_array()[1].to_number<double>();
    ++id;
  }
  ASSIGN_OR_RETURN(const int64_t unknown, model.GetIntOr("unk_id", 0, vocab_size_ - 1, -1));
  data_.unknown = static_cast<TokenId>(unknown);
  ASSIGN_OR_RETURN(data_.byte_fallback, model.GetBoolOr("byte_fallback", false));
  data_.fuse_unknown = true;
  return absl::OkStatus();
}

absl::Status Reader::AddMerge(const HfObject& model, size_t rank, std::string_view left,
                              std::string_view right) {
  const TokenId l = Find(left);
  const TokenId r = Find(right);
  if (l < 0 || r < 0) {
    return model.KeyError("merges",
                          fmt::format("has at {} a token that is not in the vocabulary", rank));
  }
  data_.merge_pairs.emplace_back(l, r);
  return absl::OkStatus();
}

absl::Status Reader::ReadMerges(const HfObject& model) {
  const json::value* merges = model.Find("merges");
  if (merges == nullptr || !merges->is_array()) return model.KeyError("merges", "is not an array");
  const json::array& array = merges->get_array();
  if (array.size() > static_cast<size_t>(kMaxMerges)) {
    return model.KeyError(
        "merges", fmt::format("has {} elements; at most {} are allowed", array.size(), kMaxMerges));
  }
  data_.merge_pairs.reserve(array.size());
  for (size_t rank = 0; rank < array.size(); ++rank) {
    const json::value& merge = array[rank];
    if (merge.is_string()) {
      const std::string_view text = View(merge.get_string());
      const size_t space = std::min(text.find(' '), text.size());
      const std::string_view right = text.substr(std::min(space + 1, text.size()));
      RETURN_IF_ERROR(AddMerge(model, rank, text.substr(0, space), right));
    } else if (merge.is_array() && merge.get_array().size() == 2 &&
               merge.get_array()[0].is_string() && merge.get_array()[1].is_string()) {
      RETURN_IF_ERROR(AddMerge(model, rank, View(merge.get_array()[0].get_string()),
                               View(merge.get_array()[1].get_string())));
    } else {
      return model.KeyError("merges", fmt::format("has no two tokens at {}", rank));
    }
  }
  return absl::OkStatus();
}

absl::Status Reader::ReadBpe(const HfObject& model) {
  data_.model = "llama";  // "gpt2" once the pre-tokenizer turns out to be byte-level
  RETURN_IF_ERROR(ReadVocabObject(model));
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    ASSIGN_OR_RETURN(const std::string_view text, model.GetStringOr(key, ""));
    if (!text.empty()) return model.Unsupported(key, "is not empty, which is not supported");
  }
  ASSIGN_OR_RETURN(data_.byte_fallback, model.GetBoolOr("byte_fallback", false));
  ASSIGN_OR_RETURN(data_.fuse_unknown, model.GetBoolOr("fuse_unk", false));
  ASSIGN_OR_RETURN(data_.whole_words_first, model.GetBoolOr("ignore_merges", false));
  ASSIGN_OR_RETURN(const std::string_view unknown, model.GetStringOr("unk_token", ""));
  if (!unknown.empty()) data_.unknown = Find(unknown);
  return ReadMerges(model);
}

absl::Status Reader::ReadModel(const HfObject& model) {
  // Old files leave the type out; theirs is BPE, or else they say so.
  ASSIGN_OR_RETURN(const std::string_view type,
                   model.GetStringOr("type", model.Has("merges") ? "BPE" : "WordPiece"));
  if (type == "BPE") return ReadBpe(model);
  if (type == "Unigram") return ReadUnigram(model);
  if (type != "WordPiece") {
    return model.Unsupported("type", fmt::format("is '{}'; these are supported: BPE, Unigram, "
                                                 "WordPiece",
                                                 QuoteForMessage(type)));
  }
  data_.model = "bert";
  RETURN_IF_ERROR(ReadVocabObject(model));
  ASSIGN_OR_RETURN(const std::string_view unknown, model.GetStringOr("unk_token", "[UNK]"));
  data_.unknown = Find(unknown);
  ASSIGN_OR_RETURN(const std::string_view mark,
                   model.GetStringOr("continuing_subword_prefix", "##"));
  data_.continuation = mark;
  ASSIGN_OR_RETURN(const int64_t max, model.GetIntOr("max_input_chars_per_word", 1, 4096, 100));
  data_.max_word_characters = static_cast<int32_t>(max);
  return absl::OkStatus();
}

absl::Status Reader::ReadAddedTokens() {
  const json::value* list = root_.Find("added_tokens");
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array()) return root_.KeyError("added_tokens", "is not an array");
  for (const json::value& element : list->get_array()) {
    if (!element.is_object()) {
      return root_.KeyError("added_tokens", "has an element that is not an object");
    }
    const HfObject token(root_.source(), element.get_object(), "added_tokens.");
    ASSIGN_OR_RETURN(const int64_t id, token.GetInt("id", 0, INT32_MAX));
    ASSIGN_OR_RETURN(const std::string_view content, token.GetString("content"));
    // Some vocabularies name tokens past the model's rows; the model can neither read nor say them.
    if (id >= vocab_size_) continue;
    RETURN_IF_ERROR(SetToken(token, "id", id, content));
    AddedToken added = {.id = static_cast<TokenId>(id)};
    ASSIGN_OR_RETURN(added.lstrip, token.GetBoolOr("lstrip", false));
    ASSIGN_OR_RETURN(added.rstrip, token.GetBoolOr("rstrip", false));
    ASSIGN_OR_RETURN(added.single_word, token.GetBoolOr("single_word", false));
    ASSIGN_OR_RETURN(added.normalized, token.GetBoolOr("normalized", false));
    ASSIGN_OR_RETURN(const bool special, token.GetBoolOr("special", false));
    data_.types[id] = special ? TokenType::kControl : TokenType::kUserDefined;
    data_.added_tokens.push_back(added);
  }
  return absl::OkStatus();
}

// As text where that says all, so that a GGUF file can hold them. Those of tokens that only a name
// may give are left out: no text must become one of them.
void Reader::FinishMerges() {
  const auto is_text = [this](TokenId id) {
    return data_.types[id] == TokenType::kNormal || data_.types[id] == TokenType::kUserDefined;
  };
  std::erase_if(data_.merge_pairs, [&](const auto& merge) {
    const std::string joined = data_.tokens[merge.first] + data_.tokens[merge.second];
    const TokenId result = Find(joined);
    return !is_text(merge.first) || !is_text(merge.second) || (result >= 0 && !is_text(result));
  });
  const auto has_space = [this](TokenId id) {
    return data_.tokens[id].find(' ') != std::string::npos;
  };
  const bool plain = std::ranges::none_of(data_.merge_pairs, [&](const auto& merge) {
    return has_space(merge.first) || has_space(merge.second);
  });
  if (!plain) return;
  data_.merges.reserve(data_.merge_pairs.size());
  for (const auto& [left, right] : data_.merge_pairs) {
    data_.merges.push_back(data_.tokens[left] + ' ' + data_.tokens[right]);
  }
  data_.merge_pairs = {};
}

absl::StatusOr<TokenizerData> Reader::Read() {
  data_.has_stages = true;
  data_.tokens.resize(static_cast<size_t>(vocab_size_));
  data_.types.assign(data_.tokens.size(), TokenType::kUnused);
  ASSIGN_OR_RETURN(const HfObject model, root_.GetObject("model"));
  RETURN_IF_ERROR(ReadModel(model));
  const auto last = std::find_if(data_.types.rbegin(), data_.types.rend(),
                                 [](TokenType type) { return type != TokenType::kUnused; });
  data_.num_model_tokens = static_cast<int32_t>(data_.types.rend() - last);
  RETURN_IF_ERROR(ReadAddedTokens());
  RETURN_IF_ERROR(ReadHfNormalizer(root_, data_));
  RETURN_IF_ERROR(ReadHfPreTokenizer(root_, data_));
  RETURN_IF_ERROR(ReadHfDecoder(root_, data_));
  RETURN_IF_ERROR(
      ReadHfPostProcessor(root_, [this](std::string_view t) { return Find(t); }, data_));
  if (data_.unknown >= 0 && data_.types[data_.unknown] == TokenType::kControl) {
    data_.types[data_.unknown] = TokenType::kUnknown;
  }
  const bool byte_level = std::ranges::any_of(data_.pre_tokenizer_steps, [](const auto& step) {
    return step.kind == PreTokenizerStep::Kind::kByteLevel;
  });
  if (data_.model == "llama" && byte_level) data_.model = "gpt2";
  if (data_.model == "gpt2") data_.decoder.kind = DecoderRule::Kind::kByteLevel;
  if (data_.byte_fallback) {
    for (size_t id = 0; id < data_.tokens.size(); ++id) {
      const std::string& token = data_.tokens[id];
      const bool names_byte = token.size() == 6 && token.starts_with("<0x") && token[5] == '>';
      if (names_byte && data_.types[id] == TokenType::kNormal) data_.types[id] = TokenType::kByte;
    }
  }
  FinishMerges();
  return std::move(data_);
}

// A token of tokenizer_config.json: its text, or an object with it.
std::string_view NamedToken(const HfObject& config, std::string_view key) {
  const json::value* value = config.Find(key);
  if (value == nullptr) return "";
  if (value->is_object()) value = value->get_object().if_contains("content");
  return value != nullptr && value->is_string() ? View(value->get_string()) : "";
}

// bos, eos, ..., and whether they stand around a text.
absl::Status ReadConfig(const std::string& path, const Reader& reader, TokenizerData& data) {
  ASSIGN_OR_RETURN(const HfJson file, HfJson::Open(path, kMaxConfigBytes));
  const HfObject config = file.root();
  const auto id = [&](std::string_view key) {
    const std::string_view text = NamedToken(config, key);
    return text.empty() ? -1 : reader.Find(text);
  };
  data.bos = id("bos_token");
  data.eos = id("eos_token");
  data.padding = id("pad_token");
  if (data.unknown < 0) data.unknown = id("unk_token");
  ASSIGN_OR_RETURN(data.add_bos, config.GetBoolOr("add_bos_token", false));
  ASSIGN_OR_RETURN(data.add_eos, config.GetBoolOr("add_eos_token", false));
  return absl::OkStatus();
}

// A template that begins with the bos token adds it, whatever the configuration says.
void ApplyTemplate(TokenizerData& data) {
  if (data.single.empty()) return;
  using Kind = TemplatePiece::Kind;
  const TemplatePiece& first = data.single.front();
  const TemplatePiece& last = data.single.back();
  data.add_bos = first.kind == Kind::kToken && (data.bos < 0 || first.token == data.bos);
  data.add_eos = last.kind == Kind::kToken && (data.eos < 0 || last.token == data.eos);
  if (data.add_bos) data.bos = first.token;
  if (data.add_eos) data.eos = last.token;
}

}  // namespace

absl::StatusOr<TokenizerData> ReadHfTokenizer(const std::string& folder, int32_t vocab_size) {
  if (vocab_size < 1 || vocab_size > kMaxVocab) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: the model has {} tokens; 1 to {} are allowed", folder, vocab_size, kMaxVocab));
  }
  ASSIGN_OR_RETURN(const HfJson file, HfJson::Open(folder + "/tokenizer.json", kMaxTokenizerBytes));
  const HfObject root = file.root();
  Reader reader(root, vocab_size);
  ASSIGN_OR_RETURN(TokenizerData data, reader.Read());
  const std::string config = folder + "/tokenizer_config.json";
  std::error_code error;
  if (std::filesystem::exists(config, error)) {
    RETURN_IF_ERROR(ReadConfig(config, reader, data));
  }
  ApplyTemplate(data);
  return data;
}

}  // namespace sluice
