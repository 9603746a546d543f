// What a model's files say about its tokenizer: plain values, filled by model/, checked and used by
// tokenizer/. The stages and their names are those of Hugging Face's tokenizer.json; a GGUF file's
// shorter description is spelled out into the same stages by its reader.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sluice/types.h"

namespace sluice {

enum class TokenType : uint8_t { kNormal, kUnknown, kControl, kUserDefined, kUnused, kByte };

// One step of rewriting the text between added tokens.
struct NormalizerStep {
  enum class Kind : uint8_t {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kLowercase,
    kStripAccents,
    kStrip,     // white space at both ends
    kPrepend,   // `content` before a text that is not empty
    kReplace,   // each `pattern` by `content`
    kCollapse,  // each run of two or more spaces by `content`
    kBert,      // the four flags
    kCharsMap,  // SentencePiece's compiled rules: `content` holds their bytes
  };
  Kind kind = Kind::kNfc;
  std::string pattern, content;
  bool strip_left = true, strip_right = true;
  bool clean_text = true, space_chinese = true, strip_accents = true, lowercase = true;
};

// One step of cutting the normalised text into words.
struct PreTokenizerStep {
  enum class Kind : uint8_t {
    kRegex,   // words are the matches of `pattern` and what lies between them
    kString,  // `pattern` stays with what stands before it
    kByteLevel,
    kDigits,
    kMetaspace,  // `pattern` (a mark such as U+2581) replaces spaces; words begin with it
    kBert,
    kWhitespace,
    kWhitespaceSplit,
    kPunctuation,
  };
  enum class Prepend : uint8_t { kNever, kFirst, kAlways };
  Kind kind = Kind::kRegex;
  std::string pattern;
  bool removes_gaps = false;           // kRegex: what no match covers is left out
  bool single = false;                 // kDigits, kPunctuation: each alone instead of runs
  bool prefix_space = false;           // kByteLevel
  bool use_regex = true;               // kByteLevel
  bool split = true;                   // kMetaspace
  Prepend prepend = Prepend::kAlways;  // kMetaspace
};

// How a token that is matched in the text itself takes part, beyond what its type says.
struct AddedToken {
  TokenId id = -1;
  bool lstrip = false, rstrip = false, single_word = false;
  bool normalized = false;  // looked for after normalisation, itself normalised
};

// What stands around texts: a special token, or the first or second text.
struct TemplatePiece {
  enum class Kind : uint8_t { kToken, kFirst, kSecond };
  Kind kind = Kind::kToken;
  TokenId token = -1;
  uint8_t type_id = 0;
};

// How tokens become text again.
struct DecoderRule {
  enum class Kind : uint8_t {
    kPlain,
    kByteLevel,
    kSpaceMark,  // `mark` stands for a space
    kWordPiece,  // `mark` joins a token to the one before; others have a space before them
  };
  Kind kind = Kind::kPlain;
  std::string mark;
  bool cleanup = false;  // kWordPiece: no space before punctuation
  // kSpaceMark, at the beginning of a whole text: drop one space, or the first token's marks.
  bool strip_first_space = false, strip_first_marks = false;
};

struct TokenizerData {
  std::string model;                // in GGUF's naming: "gpt2" (byte-level BPE), "llama" (BPE of
                                    // characters), "t5" (unigram), "bert" (WordPiece)
  std::string pre_tokenizer;        // "gpt2": GGUF's tokenizer.ggml.pre: "smollm", "llama-bpe", ...
  std::vector<std::string> tokens;  // [V], as stored (byte-level BPE: in the GPT-2 byte alphabet)
  std::vector<TokenType> types;     // [V]
  std::vector<double> scores;       // [V] or empty
  std::vector<std::string> merges;  // "left right", by rank
  std::vector<std::pair<TokenId, TokenId>> merge_pairs;    // instead of merges
  TokenId bos = -1, eos = -1, unknown = -1, padding = -1;  // -1: none
  bool add_bos = false, add_eos = false, add_space_prefix = false;

  // From tokenizer.json, or spelled out from GGUF's keys. `has_stages` = false with model "gpt2":
  // `pre_tokenizer` names them.
  bool has_stages = false;
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer_steps;
  std::vector<AddedToken> added_tokens;
  std::vector<TemplatePiece> single, pair;  // empty: the text alone
  DecoderRule decoder;
  int32_t num_model_tokens = 0;       // ids from here on are found by name only; 0: V
  bool byte_fallback = false;         // a character without a token becomes the tokens of its bytes
  bool fuse_unknown = false;          // adjacent unknown characters are one unknown token
  bool whole_words_first = false;     // BPE: a word that is a token is that token
  std::string continuation = "##";    // WordPiece: before tokens that do not begin a word
  int32_t max_word_characters = 100;  // WordPiece: longer words are unknown
};

}  // namespace sluice
