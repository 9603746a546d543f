#include "tokenizer/patterns.h"

#include <algorithm>
#include <span>

namespace sluice {
namespace {

constexpr CutStep kGpt2Words = {.kind = CutKind::kGpt2};
constexpr CutStep kGpt2WordsAndDigits = {.kind = CutKind::kGpt2, .digits_alone = true};
constexpr CutStep Llama3Words(int32_t max_digits) {
  return {.kind = CutKind::kLlama3, .max_digits = max_digits};
}
constexpr CutStep O200kWords(int32_t max_digits, bool contractions) {
  return {.kind = CutKind::kO200k, .max_digits = max_digits, .contractions = contractions};
}
constexpr CutStep kQwen35Words = {
    .kind = CutKind::kLlama3, .max_digits = 1, .marks_are_letters = true};
constexpr CutStep kSeedCoderWords = {
    .kind = CutKind::kLlama3, .max_digits = 1, .symbols_end_lines = false};
constexpr CutStep kUfakZekaWords = {
    .kind = CutKind::kLlama3, .max_digits = 1, .cuts_contractions = false};
constexpr CutStep kJais2Words = {
    .kind = CutKind::kLlama3, .max_digits = 3, .spaces_by_powers = true};
constexpr CutStep kKimiWords = {
    .kind = CutKind::kO200k, .max_digits = 3, .contractions = true, .han_apart = true};
constexpr CutStep kSparkWords = {.kind = CutKind::kDeepSeek3, .symbols_end_lines = false};
constexpr CutStep kNumberTriples = {.kind = CutKind::kTriplesFromEnd, .any_numbers = true};
constexpr CutStep Digits(int32_t max_digits) {
  return {.kind = CutKind::kDigits, .max_digits = max_digits};
}
constexpr CutStep Simple(CutKind kind) { return {.kind = kind}; }

// The models' own tokenizer.json files have these steps, in this order.
constexpr CutStep kGpt2Steps[] = {kGpt2Words};
constexpr CutStep kDigitSteps[] = {kGpt2WordsAndDigits};
constexpr CutStep kLlama3Steps[] = {Llama3Words(3)};
constexpr CutStep kQwen2Steps[] = {Llama3Words(1)};
constexpr CutStep kQwen35Steps[] = {kQwen35Words};
constexpr CutStep kSeedCoderSteps[] = {kSeedCoderWords};
constexpr CutStep kUfakZekaSteps[] = {kUfakZekaWords};
constexpr CutStep kMiniCpm5Steps[] = {Digits(3), Llama3Words(0)};
constexpr CutStep kTekkenSteps[] = {O200kWords(1, false)};
constexpr CutStep kO200kSteps[] = {O200kWords(3, true)};
constexpr CutStep kBloomSteps[] = {Simple(CutKind::kBloom)};
constexpr CutStep kVikingSteps[] = {Simple(CutKind::kBloom), Digits(1)};
constexpr CutStep kFalconSteps[] = {Simple(CutKind::kPunctuationRun), kGpt2Words,
                                    Simple(CutKind::kBytesOfDigits),
                                    Simple(CutKind::kAsciiDigitTriple)};
constexpr CutStep kDeepSeekLlmSteps[] = {
    Simple(CutKind::kNewline),       Simple(CutKind::kSpaceOldLetters),
    Simple(CutKind::kSpaceOldMarks), Simple(CutKind::kTrailingSpace),
    Simple(CutKind::kCjk),           Digits(1)};
constexpr CutStep kDeepSeekCoderSteps[] = {
    Simple(CutKind::kNewline), Simple(CutKind::kSpaceLetters), Simple(CutKind::kSpacePunctuation),
    Simple(CutKind::kCjk), Digits(1)};
constexpr CutStep kDeepSeek3Steps[] = {Digits(3), Simple(CutKind::kCjkAndKana),
                                       Simple(CutKind::kDeepSeek3)};
constexpr CutStep kSuperBpeSteps[] = {Digits(0), Simple(CutKind::kBeforeTriples)};
constexpr CutStep kKimiSteps[] = {kKimiWords};
constexpr CutStep kYoutuSteps[] = {Simple(CutKind::kYoutuScripts), O200kWords(1, true)};
constexpr CutStep kTinyAyaSteps[] = {Simple(CutKind::kTriplesFromEnd), O200kWords(3, true)};
constexpr CutStep kExaoneMoeSteps[] = {Simple(CutKind::kPhrases)};
constexpr CutStep kAfmoeSteps[] = {kNumberTriples, Simple(CutKind::kAfmoeScripts),
                                   Simple(CutKind::kDeepSeek3)};
constexpr CutStep kJais2Steps[] = {kJais2Words};
constexpr CutStep kSparkSteps[] = {Digits(3), Simple(CutKind::kCjkAndKana), kSparkWords, Digits(1)};
constexpr CutStep kLagunaSteps[] = {Simple(CutKind::kLines), Llama3Words(1)};

struct Name {
  std::string_view name;
  std::span<const CutStep> steps;
  bool whole_words_first = false, composes = false;
};

// "default" is what a byte-level tokenizer without a pattern of its own uses: GPT-2's.
constexpr Name kNames[] = {
    {"default", kGpt2Steps},
    {"gpt-2", kGpt2Steps},
    {"a.x-4.0", kGpt2Steps},
    {"afmoe", kAfmoeSteps},
    {"bailingmoe", kQwen2Steps},
    {"bailingmoe2", kQwen2Steps},
    {"bloom", kBloomSteps},
    {"chatglm-bpe", kLlama3Steps},
    {"codeshell", kDigitSteps},
    {"cohere2moe", kTinyAyaSteps},
    {"command-r", kDigitSteps, false, true},
    {"dbrx", kLlama3Steps},
    {"deepseek-coder", kDeepSeekCoderSteps},
    {"deepseek-llm", kDeepSeekLlmSteps},
    {"deepseek-r1-qwen", kQwen2Steps, false, true},
    {"deepseek-v3", kDeepSeek3Steps},
    {"exaone", kDigitSteps},
    {"exaone-moe", kExaoneMoeSteps},
    {"exaone4", kGpt2Steps},
    {"f2llmv2", kQwen2Steps, false, true},
    {"falcon", kFalconSteps},
    {"falcon-h1", kLlama3Steps, true},
    {"falcon3", kLlama3Steps, true},
    {"gigachat", kGpt2Steps},
    {"glm4", kLlama3Steps, true},
    {"glm5", kLlama3Steps, true},
    {"gpt-4o", kO200kSteps},
    {"gpt3-finnish", kBloomSteps},
    {"granite-docling", kGpt2Steps},
    {"granite-embed-multi-97m", kO200kSteps, true},
    {"grok-2", kQwen2Steps},
    {"hunyuan", kQwen2Steps},
    {"hunyuan-dense", kDeepSeek3Steps},
    {"hy_v4", kDeepSeek3Steps},
    {"jais", kGpt2Steps},
    {"jais-2", kJais2Steps},
    {"jina-de", kGpt2Steps},
    {"jina-es", kGpt2Steps},
    {"jina-v1-en", kGpt2Steps},
    {"jina-v2-code", kGpt2Steps},
    {"jina-v2-de", kGpt2Steps},
    {"jina-v2-es", kGpt2Steps},
    {"jina-v5-nano", kLlama3Steps, true},
    {"joyai-llm", kDeepSeek3Steps},
    {"kanana2", kO200kSteps},
    {"kimi-k2", kKimiSteps},
    {"kormo", kQwen2Steps},
    {"laguna", kLagunaSteps},
    {"lfm2", kLlama3Steps, true},
    {"llada-moe", kQwen2Steps},
    {"llama-bpe", kLlama3Steps, true},
    {"llama-v3", kLlama3Steps, true},
    {"llama3", kLlama3Steps, true},
    {"llama4", kO200kSteps},
    {"megrez", kQwen2Steps},
    {"mellum", kGpt2Steps},
    {"mellum2", kDigitSteps},
    {"midm-2.0", kLlama3Steps, true},
    {"minerva-7b", kDigitSteps},
    {"minicpm5", kMiniCpm5Steps, true},
    {"minimax-m2", kO200kSteps},
    {"modern-bert", kGpt2Steps, false, true},
    {"mpt", kGpt2Steps},
    {"olmo", kGpt2Steps},
    {"phi-2", kGpt2Steps},
    {"pixtral", kLlama3Steps, true},
    {"poro-chat", kBloomSteps},
    {"qwen2", kQwen2Steps, false, true},
    {"qwen35", kQwen35Steps, false, true},
    {"refact", kDigitSteps},
    {"roberta-bpe", kGpt2Steps},
    {"seed-coder", kSeedCoderSteps},
    {"smaug-bpe", kLlama3Steps},
    {"smollm", kDigitSteps},
    {"solar-open", kQwen2Steps},
    {"spark2_5", kSparkSteps},
    {"stablelm2", kQwen2Steps},
    {"starcoder", kDigitSteps},
    {"superbpe", kSuperBpeSteps},
    {"talkie", kO200kSteps},
    {"tekken", kTekkenSteps, true},
    {"tiny_aya", kTinyAyaSteps},
    {"trillion", kGpt2Steps},
    {"ufakzeka", kUfakZekaSteps},
    {"viking", kVikingSteps},
    {"youtu", kYoutuSteps, true},
};

// Of names for the same steps these are in the most files; among the others the first is as good as
// the last.
constexpr std::string_view kUsualNames[] = {"gpt-2",     "smollm", "llama-bpe",
                                            "smaug-bpe", "qwen2",  "stablelm2"};

NamedPreTokenizer Described(const Name& known) {
  return {{known.steps.begin(), known.steps.end()}, known.whole_words_first, known.composes};
}

struct Pattern {
  std::string_view regex;
  CutStep step;
};

#define SLUICE_CASED "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define SLUICE_UNCASED "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define SLUICE_PREFIX "[^\\r\\n\\p{L}\\p{N}]?"
#define SLUICE_CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SLUICE_SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define SLUICE_SYMBOLS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
#define SLUICE_PATH_SYMBOLS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|"
#define SLUICE_CL100K "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|"
#define SLUICE_CL100K_END "| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"
#define SLUICE_KIMI_HEADS "[" SLUICE_CASED "&&[^\\p{Han}]]"
#define SLUICE_KIMI_TAILS "[" SLUICE_UNCASED "&&[^\\p{Han}]]"
#define SLUICE_CASE_WORDS(tail)                                                                    \
  SLUICE_PREFIX "[" SLUICE_CASED "]*[" SLUICE_UNCASED "]+" tail "|" SLUICE_PREFIX "[" SLUICE_CASED \
                "]+[" SLUICE_UNCASED "]*" tail "|"

constexpr Pattern kPatterns[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     kGpt2Words},
    {SLUICE_CONTRACTION "|" SLUICE_PREFIX "\\p{L}+|\\p{N}{1,3}|" SLUICE_SYMBOLS SLUICE_SPACES,
     Llama3Words(3)},
    {SLUICE_CONTRACTION "|" SLUICE_PREFIX "\\p{L}+|\\p{N}{1}|" SLUICE_SYMBOLS SLUICE_SPACES,
     Llama3Words(1)},
    {SLUICE_CONTRACTION "|" SLUICE_PREFIX "\\p{L}+|\\p{N}|" SLUICE_SYMBOLS SLUICE_SPACES,
     Llama3Words(1)},
    {SLUICE_CONTRACTION "|" SLUICE_PREFIX "\\p{L}+|\\p{N}+|" SLUICE_SYMBOLS SLUICE_SPACES,
     Llama3Words(0)},
    {SLUICE_CONTRACTION "|" SLUICE_PREFIX "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+"
                        "[\\r\\n]*|" SLUICE_SPACES,
     kQwen35Words},
    {SLUICE_CONTRACTION
     "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SLUICE_SPACES,
     kSeedCoderWords},
    {SLUICE_PREFIX "\\p{L}+|\\p{N}|" SLUICE_SYMBOLS SLUICE_SPACES, kUfakZekaWords},
    {SLUICE_CL100K "\\p{N}{1,3}" SLUICE_CL100K_END, Llama3Words(3)},
    {SLUICE_CL100K "\\p{N}" SLUICE_CL100K_END, Llama3Words(1)},
    {SLUICE_CASE_WORDS("") "\\p{N}|" SLUICE_PATH_SYMBOLS SLUICE_SPACES, O200kWords(1, false)},
    {SLUICE_CASE_WORDS("") "\\p{N}{1,3}|" SLUICE_PATH_SYMBOLS SLUICE_SPACES, O200kWords(3, false)},
    {SLUICE_CASE_WORDS(SLUICE_CONTRACTION "?") "\\p{N}{1,3}|" SLUICE_PATH_SYMBOLS SLUICE_SPACES,
     O200kWords(3, true)},
    {"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
     "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
     Simple(CutKind::kDeepSeek3)},
    {"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
     "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\r\n]|\\s+(?!\\S)|\\s+",
     kSparkWords},
    {SLUICE_CASE_WORDS(SLUICE_CONTRACTION "?") "\\p{N}|" SLUICE_PATH_SYMBOLS SLUICE_SPACES,
     O200kWords(1, true)},
    {"[\\p{Han}]+|" SLUICE_PREFIX SLUICE_KIMI_HEADS "*" SLUICE_KIMI_TAILS "+" SLUICE_CONTRACTION
     "?|" SLUICE_PREFIX SLUICE_KIMI_HEADS "+" SLUICE_KIMI_TAILS "*" SLUICE_CONTRACTION
     "?|\\p{N}{1,3}|" SLUICE_SYMBOLS SLUICE_SPACES,
     kKimiWords},
    {SLUICE_CONTRACTION "|" SLUICE_PREFIX "(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}"
                        "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
     Simple(CutKind::kPhrases)},
    {SLUICE_CONTRACTION "|" SLUICE_PREFIX "\\p{L}+|\\p{N}{1,3}|" SLUICE_SYMBOLS
                        "\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)"
                        "|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)"
                        "|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}",
     kJais2Words},
    {"(?=(\\d{3})+(?!\\d))", Simple(CutKind::kBeforeTriples)},
    {"\\d{1,3}(?=(?:\\d{3})*\\b)", Simple(CutKind::kTriplesFromEnd)},
    {"\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))", kNumberTriples},
    {"[^\\n]+|[\\n]+", Simple(CutKind::kLines)},
    {"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+"
     "|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+",
     Simple(CutKind::kYoutuScripts)},
    {"[一-鿿㐀-䶿\uF900-\uFAFF぀-ゟ゠-ヿ･-ﾟ"
     "⼀-⿟เ-\u0E7F\u0E80-\u0EFFក-\u17FF"
     "\u1000-\u109Fꩠ-ꩿ\uA9E0-\uA9FF가-\uD7AF\u1100-\u11FF]+",
     Simple(CutKind::kAfmoeScripts)},
    {"\\p{N}{1,3}", Digits(3)},
    {"\\p{N}", Digits(1)},
    {"\\p{N}+", Digits(0)},
    {"[0-9][0-9][0-9]", Simple(CutKind::kAsciiDigitTriple)},
    {"[\r\n]", Simple(CutKind::kNewline)},
    {"\\s?\\p{L}+", Simple(CutKind::kSpaceLetters)},
    {"\\s?\\p{P}+", Simple(CutKind::kSpacePunctuation)},
    {"\\s?[!-/:-~！-／：-～‘-‟　-。]+", Simple(CutKind::kSpaceOldMarks)},
    {"\\s+$", Simple(CutKind::kTrailingSpace)},
    {"[一-龥ࠀ-一가-퟿]+", Simple(CutKind::kCjk)},
    {"[一-龥぀-ゟ゠-ヿ]+", Simple(CutKind::kCjkAndKana)},
    {" ?[^(\\s|.,!?…。，、।۔،)]+", Simple(CutKind::kBloom)},
};

// Some files escape line ends (\r, \n), others hold them.
std::string WithRealLineEnds(std::string_view regex) {
  std::string out;
  for (size_t i = 0; i < regex.size(); ++i) {
    const char next = i + 1 < regex.size() ? regex[i + 1] : '\0';
    const bool escape = regex[i] == '\\';
    if (escape && (next == 'r' || next == 'n')) {
      out.push_back(next == 'r' ? '\r' : '\n');
      ++i;
      continue;
    }
    out.push_back(regex[i]);
    if (escape && next != '\0') out.push_back(regex[++i]);
  }
  return out;
}

}  // namespace

std::optional<NamedPreTokenizer> FindPreTokenizer(std::string_view name) {
  for (const Name& known : kNames) {
    if (known.name == name) return Described(known);
  }
  return std::nullopt;
}

std::string_view NameOf(const NamedPreTokenizer& pre_tokenizer) {
  std::string_view first;
  for (const Name& known : kNames) {
    if (known.name == "default" || Described(known) != pre_tokenizer) continue;
    if (std::ranges::find(kUsualNames, known.name) != std::end(kUsualNames)) return known.name;
    if (first.empty()) first = known.name;
  }
  return first;
}

std::string PreTokenizerNames() {
  std::string names;
  for (const Name& known : kNames) {
    if (!names.empty()) names += ", ";
    names += known.name;
  }
  return names;
}

std::optional<CutStep> FindPattern(std::string_view regex) {
  if (regex == OldLettersExpression()) return Simple(CutKind::kSpaceOldLetters);
  const std::string wanted = WithRealLineEnds(regex);
  for (const Pattern& known : kPatterns) {
    if (WithRealLineEnds(known.regex) == wanted) return known.step;
  }
  return std::nullopt;
}

}  // namespace sluice
