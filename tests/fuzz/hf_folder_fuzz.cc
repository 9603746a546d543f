// Any text as each of the JSON files of a folder in turn, beside the folder's real other files:
// opening it, its matrices as a load reads them, and its tokenizer, which must serve what Create
// accepts. From the repository's root; the folders are goldens of the tests.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/utf8.h"
#include "model/inspect.h"
#include "model/model_file.h"
#include "tokenizer/tokenizer.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

void Write(const fs::path& path, std::string_view bytes) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  SLUICE_CHECK(file != nullptr, "{}", path.string());
  std::fwrite(bytes.data(), 1, bytes.size(), file);
  std::fclose(file);
}

// A copy of a golden folder in memory-backed files, one of which can be replaced.
class Folder {
 public:
  Folder(const fs::path& golden, const fs::path& copy) : path_(copy) {
    fs::copy(golden, copy, fs::copy_options::recursive);
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(copy)) {
      if (entry.path().extension() == ".json" && entry.path().stem() != "expected")
        files_.push_back(entry.path());
    }
    // Files that folders may have and this one has not.
    for (const char* name : {"generation_config.json", "tokenizer_config.json", "tokenizer.json"}) {
      if (!fs::exists(copy / name)) files_.push_back(copy / name);
    }
  }

  void Try(std::string_view input) const {
    for (const fs::path& file : files_) {
      const bool there = fs::exists(file);
      const fs::path kept = path_ / "kept";
      if (there) fs::rename(file, kept);
      Write(file, input);
      Open();
      there ? fs::rename(kept, file) : static_cast<void>(fs::remove(file));
    }
  }

 private:
  void Open() const {
    const auto model = ModelFile::Open(path_.string());
    if (!model.ok()) return;
    (void)InspectModel(*model, 512, 32);
    const auto tokenizer = Tokenizer::Create(model->info.tokenizer);
    if (!tokenizer.ok()) return;
    const Text first("The quick <s>brown</s> fox, 12 \xF0\x9F\xA6\x8A\xCC\x81 "), second("b");
    const PromptSegment segment{first, true};
    const std::string text = (*tokenizer)->Decode((*tokenizer)->Encode({&segment, 1}), false);
    SLUICE_CHECK(IsValidUtf8(text), "a broken character");
    (void)(*tokenizer)->EncodeTexts(first, &second, 12);
  }

  const fs::path path_;
  std::vector<fs::path> files_;
};

const std::vector<Folder>& Folders() {
  static const std::vector<Folder> folders = [] {
    const fs::path root = fs::exists("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path();
    static const fs::path copies = root / ("sluice_fuzz_" + std::to_string(getpid()));
    std::atexit([] { fs::remove_all(copies); });
    fs::create_directories(copies);
    std::vector<Folder> made;
    for (const char* name : {"families/bert-cls", "families/qwen2", "quantised/ct_pack4"})
      made.emplace_back(fs::path("tests/golden") / name, copies / fs::path(name).filename());
    return made;
  }();
  return folders;
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const sluice::Folder& folder : sluice::Folders())
    folder.Try({reinterpret_cast<const char*>(data), size});
  return 0;
}
