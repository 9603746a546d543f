// Models in several GGUF files, as the gguf package splits them (tests/golden/make_gguf.py).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "model/convert.h"
#include "model/model_file.h"
#include "tests/model/logit_golden.h"
#include "tests/model/test_gguf.h"
#include "tests/model/test_hf_folder.h"

namespace sluice {
namespace {

namespace fs = std::filesystem;

std::string Name(int part) { return "in-parts-0000" + std::to_string(part) + "-of-00003.gguf"; }

std::vector<uint8_t> Bytes(const ModelTensor& tensor) {
  return {tensor.data, tensor.data + tensor.num_bytes};
}

TEST(GgufParts, AreOneModel) {
  const auto whole = ModelFile::Open(GoldenFolder("gguf/bert-mean.gguf"));
  ASSERT_TRUE(whole.ok()) << whole.status();
  const auto parts = ModelFile::Open(GoldenFolder("gguf/" + Name(1)));
  ASSERT_TRUE(parts.ok()) << parts.status();
  EXPECT_EQ(parts->gguf->num_parts(), 3);
  EXPECT_GT(parts->num_bytes(), whole->num_bytes());
  ASSERT_EQ(parts->tensors().tensors.size(), whole->tensors().tensors.size());
  for (const ModelTensor& tensor : whole->tensors().tensors) {
    const ModelTensor* same = parts->tensors().Find(tensor.name);
    ASSERT_NE(same, nullptr) << tensor.name;
    EXPECT_EQ(Bytes(*same), Bytes(tensor)) << tensor.name;
  }
}

TEST(GgufParts, ConvertWritesOneFile) {
  const auto parts = ModelFile::Open(GoldenFolder("gguf/" + Name(1)));
  const TemporaryFolder dir;
  ASSERT_TRUE(ConvertToGguf(*parts, dir.path() / "one.gguf", {}).ok());
  const auto one = ModelFile::Open(dir.path() / "one.gguf");
  ASSERT_TRUE(one.ok()) << one.status();
  EXPECT_EQ(one->gguf->num_parts(), 1);
  EXPECT_EQ(one->gguf->Find("split.count"), nullptr);
  EXPECT_EQ(one->tensors().tensors.size(), parts->tensors().tensors.size());
}

void Rewrite(const fs::path& path, const std::function<void(TestGguf&)>& change) {
  TestGguf file = ReadTestGguf(path);
  change(file);
  const std::vector<uint8_t> bytes = file.Build();
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

TEST(GgufParts, AreRefusedInOneSentence) {
  const struct {
    std::function<void(const fs::path&)> spoil;
    std::string open, message;
  } kWrong[] = {
      {[](const fs::path&) {}, Name(2), "is part 2 of 3; open the first, '"},
      {[](const fs::path& d) { fs::remove(d / Name(3)); }, Name(1), Name(3) + ": cannot open"},
      {[](const fs::path& d) { fs::rename(d / Name(1), d / "model.gguf"); }, "model.gguf",
       "is part 1 of 3, so that its name must end in '-00001-of-00003.gguf'"},
      {[](const fs::path& d) {
         fs::copy_file(d / Name(2), d / Name(3), fs::copy_options::overwrite_existing);
       },
       Name(1), "says that it is part 2 of 3; its name and the first part say 3 of 3"},
      {[](const fs::path& d) { Rewrite(d / Name(2), [](TestGguf& f) { f.tensors.pop_back(); }); },
       Name(1), "key 'split.tensors.count' is 37; the 3 parts hold 36 tensors"},
      {[](const fs::path& d) {
         Rewrite(d / Name(2), [](TestGguf& f) { f.tensors[0].name = "token_embd.weight"; });
       },
       Name(1), "tensor 'token_embd.weight' stands in two of its parts"},
      {[](const fs::path& d) {
         Rewrite(d / Name(1), [](TestGguf& f) { f.SetU32("split.count", 65535); });
       },
       Name(1), "key 'split.count' is 65535; must be in [0, 1024]"},
  };
  for (const auto& wrong : kWrong) {
    const TemporaryFolder dir;
    for (int part = 1; part <= 3; ++part) {
      fs::copy_file(GoldenFolder("gguf/" + Name(part)), dir.path() / Name(part));
    }
    wrong.spoil(dir.path());
    const auto model = ModelFile::Open(dir.path() / wrong.open);
    ASSERT_FALSE(model.ok()) << wrong.message;
    EXPECT_NE(std::string(model.status().message()).find(wrong.message), std::string::npos)
        << model.status();
  }
}

}  // namespace
}  // namespace sluice
