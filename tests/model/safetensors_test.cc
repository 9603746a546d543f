#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>

#include "tests/model/allocation_peak.h"
#include "tests/model/test_safetensors.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TestSafetensors SmallFile() {
  return {{{"b.weight", "BF16", {2, 3}, std::string(12, 'b'), {}},
           {"a.weight", "F32", {2}, std::string(8, 'a'), {}},
           {"scale", "F16", {}, std::string(2, 's'), {}},
           {"none", "I64", {0, 7}, "", {}}},
          {},
          {},
          {}};
}

TEST(Safetensors, ReadsTensorsByName) {
  const std::vector<uint8_t> bytes = SmallFile().Build();
  const auto file = SafetensorsFile::Parse(bytes, "f");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 4U);
  const SafetensorsTensor& a = file->tensors()[0];
  EXPECT_EQ(a.name, "a.weight");
  EXPECT_EQ(a.type, SafetensorsType::kF32);
  EXPECT_EQ(a.num_dims, 1);
  EXPECT_EQ(a.num_elements(), 2);
  EXPECT_EQ(a.data[0], 'a');
  const SafetensorsTensor& b = file->tensors()[1];
  EXPECT_EQ(b.type, SafetensorsType::kBF16);
  EXPECT_EQ(b.ShapeString(), "[2, 3]");
  EXPECT_EQ(b.num_bytes, 12);
  EXPECT_EQ(b.data[11], 'b');
  EXPECT_EQ(file->tensors()[2].num_elements(), 0);
  EXPECT_EQ(file->tensors()[3].num_dims, 0);
  EXPECT_EQ(file->tensors()[3].num_elements(), 1);
}

TEST(Safetensors, UnderstandsEscapedNames) {
  TestSafetensors file = SmallFile();
  file.Tensor("scale").name = "sc\\u0061le\\n";
  const std::vector<uint8_t> bytes = file.Build();
  const auto parsed = SafetensorsFile::Parse(bytes, "f");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->tensors()[3].name, "scale\n");
}

struct Hostile {
  const char* name;
  std::function<void(TestSafetensors&)> spoil;
  const char* message;
};

const Hostile kHostile[] = {
    {"HeaderLongerThanTheFile", [](TestSafetensors& f) { f.header_bytes = 1 << 20; },
     "the header claims 1048576 bytes"},
    {"HeaderLengthHuge", [](TestSafetensors& f) { f.header_bytes = ~0ULL; },
     "the header claims 18446744073709551615 bytes"},
    {"HeaderLengthZero", [](TestSafetensors& f) { f.header_bytes = 0; }, "not a JSON object"},
    {"HeaderCut", [](TestSafetensors& f) { f.header_bytes = 40; }, "not valid JSON"},
    {"HeaderIsArray", [](TestSafetensors& f) { f.header = "[1,2]"; }, "not a JSON object"},
    {"HeaderGoesOn", [](TestSafetensors& f) { f.extra = "} {\"x\":1"; }, "goes on after its JSON"},
    {"NoUtf8", [](TestSafetensors& f) { f.tensors[0].name = "\xff"; }, "not valid JSON"},
    {"Deep", [](TestSafetensors& f) { f.tensors[0].dtype = "F32\",\"shape\":[[[[]]]],\"x\":\""; },
     "not valid JSON: too deep"},
    {"TensorIsNumber", [](TestSafetensors& f) { f.extra = ",\"x\":1"; },
     "tensor 'x' holds an unexpected number"},
    {"TensorIsNull", [](TestSafetensors& f) { f.extra = ",\"x\":null"; }, "tensor 'x' holds null"},
    {"TensorIsEmpty", [](TestSafetensors& f) { f.extra = ",\"x\":{}"; },
     "tensor 'x' needs one dtype, one shape and one data_offsets"},
    {"TwoShapes",
     [](TestSafetensors& f) { f.tensors[0].dtype = "F32\",\"shape\":[],\"dtype\":\"F32"; },
     "needs one dtype, one shape"},
    {"UnknownType", [](TestSafetensors& f) { f.tensors[0].dtype = "C64"; },
     "tensor 'b.weight' has the unknown dtype 'C64'"},
    {"ObjectInTensor", [](TestSafetensors& f) { f.extra = ",\"x\":{\"dtype\":{}}"; },
     "tensor 'x' holds an object"},
    {"NumberInMetadata", [](TestSafetensors& f) { f.extra = ",\"__metadata__\":{\"a\":1}"; },
     "'__metadata__' holds an unexpected number"},
    {"NegativeDimension", [](TestSafetensors& f) { f.tensors[0].shape = {-1, 6}; },
     "has the number -1"},
    {"FractionalDimension", [](TestSafetensors& f) { f.extra = ",\"x\":{\"shape\":[1.5]}"; },
     "has the number 1.5; whole numbers are needed"},
    {"DimensionBeyondInt64",
     [](TestSafetensors& f) { f.extra = ",\"x\":{\"shape\":[18446744073709551615]}"; },
     "has the number 18446744073709551615"},
    {"FiveDimensions", [](TestSafetensors& f) { f.tensors[0].shape = {1, 1, 1, 2, 3}; },
     "has more than 4 dimensions"},
    {"ShapeLargerThanItsBytes", [](TestSafetensors& f) { f.tensors[0].shape = {2, 4}; },
     "tensor 'b.weight' has shape [2, 4] of BF16 in 12 bytes"},
    {"ShapeOverflows", [](TestSafetensors& f) { f.tensors[0].shape = {1LL << 62, 1LL << 62, 4}; },
     "in 12 bytes"},
    {"ShapeOverflowsToItsBytes",
     [](TestSafetensors& f) { f.tensors[0].shape = {(1LL << 62) + 3, 2}; }, "in 12 bytes"},
    {"RangeBackwards", [](TestSafetensors& f) { f.tensors[0].range = {{12, 0}}; },
     "has data_offsets [12, 0]; the file holds 22 bytes of data"},
    {"RangeBeyondTheFile", [](TestSafetensors& f) { f.tensors[2].range = {{20, 24}}; },
     "has data_offsets [20, 24]; the file holds 22"},
    {"RangeHuge", [](TestSafetensors& f) { f.tensors[0].range = {{0, INT64_MAX}}; },
     "data_offsets [0, 9223"},
    {"ThreeOffsets",
     [](TestSafetensors& f) {
       f.tensors[0].dtype = "F32\",\"data_offsets\":[0,1,2],\"dtype\":\"F32";
     },
     "has more than 2 data_offsets"},
    {"OneOffset", [](TestSafetensors& f) { f.extra = ",\"x\":{\"data_offsets\":[0]}"; },
     "has 1 data_offsets"},
    {"Overlap", [](TestSafetensors& f) { f.tensors[1].range = {{8, 16}}; },
     "tensor 'a.weight' begins at 8 of the data, inside another, which ends at 12"},
    {"SamePlace", [](TestSafetensors& f) { f.tensors[1].range = {{0, 8}}; }, "inside another"},
    {"Hole",
     [](TestSafetensors& f) {
       f.tensors.erase(f.tensors.begin() + 1);
       f.tensors[1].range = {{14, 16}};
       f.tensors[2].range = {{16, 16}};
       f.tensors[2].data = "xxxx";
     },
     "after a hole, which begins at 12"},
    {"DataGoesOn",
     [](TestSafetensors& f) {
       f.tensors.back().data = "xyz";
       f.tensors.back().range = {{22, 22}};
     },
     "the tensors end at 22 of 25 bytes"},
    {"SameNameTwice", [](TestSafetensors& f) { f.tensors[1].name = "b.weight"; },
     "tensor 'b.weight' stands in the file twice"},
    {"NameEmpty", [](TestSafetensors& f) { f.tensors[1].name = ""; }, "name is empty"},
    {"NameTooLong", [](TestSafetensors& f) { f.tensors[1].name = std::string(300, 'n'); },
     "not valid JSON"},
};

class SafetensorsHostile : public ::testing::TestWithParam<Hostile> {};

TEST_P(SafetensorsHostile, IsRefusedInOneSentenceWithoutMuchMemory) {
  TestSafetensors file = SmallFile();
  GetParam().spoil(file);
  const std::vector<uint8_t> bytes = file.Build();
  AllocationPeak peak;
  const auto parsed = SafetensorsFile::Parse(bytes, "f.safetensors");
  EXPECT_LE(peak.bytes(), 2 * bytes.size() + 8192);  // the parser's own 4 KiB among them
  ASSERT_FALSE(parsed.ok());
  EXPECT_THAT(
      std::string(parsed.status().message()),
      AllOf(StartsWith("f.safetensors: "), HasSubstr(GetParam().message), Not(HasSubstr("\n"))));
}

INSTANTIATE_TEST_SUITE_P(Files, SafetensorsHostile, ::testing::ValuesIn(kHostile),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Safetensors, ALongArrayOfNumbersTakesNoMemory) {
  TestSafetensors file;
  file.header = "{\"x\":{\"shape\":[0";
  for (int i = 0; i < 1 << 20; ++i) *file.header += ",0";
  *file.header += "]}}";
  const std::vector<uint8_t> bytes = file.Build();
  AllocationPeak peak;
  EXPECT_FALSE(SafetensorsFile::Parse(bytes, "f").ok());
  EXPECT_LE(peak.bytes(), 16384U);
}

TEST(Safetensors, EveryTruncationIsRefused) {
  const std::vector<uint8_t> bytes = SmallFile().Build();
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::span<const uint8_t> cut(bytes.data(), size);
    EXPECT_FALSE(SafetensorsFile::Parse(cut, "f").ok()) << size << " of " << bytes.size();
  }
}

TEST(Safetensors, NoRandomDamageCrashesOrLeavesTheFile) {
  const std::vector<uint8_t> good = SmallFile().Build();
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> bytes = good;
    for (auto n = 1 + random() % 3; n > 0; --n)
      bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    AllocationPeak peak;
    const auto file = SafetensorsFile::Parse(bytes, "f");
    ASSERT_LE(peak.bytes(), 2 * bytes.size() + 8192) << "seed 7, iteration " << i;
    if (!file.ok()) continue;
    for (const SafetensorsTensor& tensor : file->tensors()) {
      ASSERT_GE(tensor.data, bytes.data());
      ASSERT_LE(tensor.data + tensor.num_bytes, bytes.data() + bytes.size());
    }
  }
}

}  // namespace
}  // namespace sluice
