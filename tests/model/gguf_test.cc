#include "model/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>

#include "tests/model/allocation_peak.h"
#include "tests/model/test_gguf.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::string FloatBytes(size_t count) { return std::string(count * 4, '\0'); }

// One key of every type and two tensors.
TestGguf SmallFile() {
  TestGguf file;
  file.SetString("a.string", "text");
  file.SetU32("a.u32", 7);
  file.SetF32("a.f32", 0.5F);
  file.SetBool("a.bool", 1);
  file.SetStrings("a.strings", {"x", "", "yz"});
  file.SetI32s("a.ints", {1, -2, 3});
  file.tensors.push_back({"m", {32, 4}, 2, std::string(4 * 18, '\1'), std::nullopt});
  file.tensors.push_back({"v", {5}, 0, FloatBytes(5), std::nullopt});
  return file;
}

TEST(Gguf, ReadsEveryMetadataType) {
  TestGguf file;
  file.Set("u8", GgufType::kUint8, ByteWriter().Add<uint8_t>(200).str());
  file.Set("i8", GgufType::kInt8, ByteWriter().Add<int8_t>(-5).str());
  file.Set("u16", GgufType::kUint16, ByteWriter().Add<uint16_t>(60000).str());
  file.Set("i16", GgufType::kInt16, ByteWriter().Add<int16_t>(-300).str());
  file.Set("u32", GgufType::kUint32, ByteWriter().Add<uint32_t>(4000000000U).str());
  file.Set("i32", GgufType::kInt32, ByteWriter().Add<int32_t>(-70000).str());
  file.Set("u64", GgufType::kUint64, ByteWriter().Add<uint64_t>(1ULL << 40).str());
  file.Set("i64", GgufType::kInt64, ByteWriter().Add<int64_t>(-(1LL << 40)).str());
  file.Set("f32", GgufType::kFloat32, ByteWriter().Add<float>(1.5F).str());
  file.Set("f64", GgufType::kFloat64, ByteWriter().Add<double>(2.25).str());
  file.SetBool("bool", 1);
  file.SetString("string", std::string("a\0b", 3));
  file.SetStrings("strings", {"x", "", "yz"});
  file.SetI32s("ints", {1, -2});
  file.Set("floats", GgufType::kArray,
           ByteWriter().Add(GgufType::kFloat32).Add<uint64_t>(2).Add(0.5F).Add(-1.0F).str());
  file.Set("nested", GgufType::kArray,
           ByteWriter()
               .Add(GgufType::kArray)
               .Add<uint64_t>(2)
               .Add(GgufType::kUint8)
               .Add<uint64_t>(1)
               .Add<uint8_t>(9)
               .Add(GgufType::kString)
               .Add<uint64_t>(1)
               .AddString("deep")
               .str());
  const std::vector<uint8_t> bytes = file.Build();
  const auto gguf = GgufFile::Parse(bytes, "f");
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  const auto int_of = [&](const char* key) {
    return (*gguf)->GetInt(key, INT64_MIN, INT64_MAX).value();
  };
  EXPECT_EQ(int_of("u8"), 200);
  EXPECT_EQ(int_of("i8"), -5);
  EXPECT_EQ(int_of("u16"), 60000);
  EXPECT_EQ(int_of("i16"), -300);
  EXPECT_EQ(int_of("u32"), 4000000000);
  EXPECT_EQ(int_of("i32"), -70000);
  EXPECT_EQ(int_of("u64"), 1LL << 40);
  EXPECT_EQ(int_of("i64"), -(1LL << 40));
  EXPECT_EQ((*gguf)->GetFloat("f32", 0, 9).value(), 1.5);
  EXPECT_EQ((*gguf)->GetFloat("f64", 0, 9).value(), 2.25);
  EXPECT_TRUE((*gguf)->GetBoolOr("bool", false).value());
  EXPECT_EQ((*gguf)->GetString("string").value(), std::string_view("a\0b", 3));
  EXPECT_THAT((*gguf)->GetStrings("strings", 3).value(), ElementsAre("x", "", "yz"));
  EXPECT_THAT((*gguf)->GetInts("ints", 2).value(), ElementsAre(1, -2));
  EXPECT_THAT((*gguf)->GetFloats("floats", 2).value(), ElementsAre(0.5F, -1.0F));
  EXPECT_EQ((*gguf)->Find("nested")->count, 2U);
  EXPECT_EQ((*gguf)->Find("nothing"), nullptr);
}

TEST(Gguf, ReadsTensorsOfEveryType) {
  for (const uint32_t version : {2U, 3U}) {
    TestGguf file;
    file.version = version;
    // By ggml's numbers: the bytes of a row of 256 elements.
    const std::pair<uint32_t, size_t> kTypes[] = {
        {0, 1024}, {1, 512}, {30, 512}, {8, 272},  {2, 144},  {3, 160},  {6, 176},
        {7, 192},  {10, 84}, {11, 110}, {12, 144}, {13, 176}, {14, 210}, {20, 144}};
    for (const auto& [type, row_bytes] : kTypes) {
      file.tensors.push_back({"t" + std::to_string(type),
                              {256, 3},
                              type,
                              std::string(3 * row_bytes, 'a'),
                              std::nullopt});
    }
    const std::vector<uint8_t> bytes = file.Build();
    const auto gguf = GgufFile::Parse(bytes, "f");
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    for (const auto& [type, row_bytes] : kTypes) {
      const ModelTensor* tensor = (*gguf)->tensors().Find("t" + std::to_string(type));
      ASSERT_NE(tensor, nullptr);
      EXPECT_EQ(tensor->num_bytes, static_cast<int64_t>(3 * row_bytes));
      EXPECT_EQ(tensor->ShapeString(), "[256, 3]");
      EXPECT_EQ(tensor->data[0], 'a');
    }
  }
}

TEST(Gguf, RefusesWrongTypesAndRangesByKey) {
  const std::vector<uint8_t> bytes = SmallFile().Build();
  const auto gguf = GgufFile::Parse(bytes, "dir/f.gguf");
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  const auto message = [](const auto& result) { return std::string(result.status().message()); };
  EXPECT_EQ(message((*gguf)->GetInt("a.f32", 0, 9)),
            "dir/f.gguf: key 'a.f32' has type float32; an integer is needed");
  EXPECT_EQ(message((*gguf)->GetInt("a.u32", 8, 9)),
            "dir/f.gguf: key 'a.u32' is 7; must be in [8, 9]");
  EXPECT_EQ(message((*gguf)->GetInt("b", 8, 9)), "dir/f.gguf: key 'b' is missing");
  EXPECT_EQ(message((*gguf)->GetFloat("a.u32", 0, 9)),
            "dir/f.gguf: key 'a.u32' has type uint32; a float is needed");
  EXPECT_EQ(message((*gguf)->GetFloat("a.f32", 1, 9)),
            "dir/f.gguf: key 'a.f32' is 0.5; must be in [1, 9]");
  EXPECT_EQ(message((*gguf)->GetString("a.u32")),
            "dir/f.gguf: key 'a.u32' has type uint32; a string is needed");
  EXPECT_EQ(message((*gguf)->GetBoolOr("a.u32", true)),
            "dir/f.gguf: key 'a.u32' has type uint32; a bool is needed");
  EXPECT_EQ(message((*gguf)->GetStrings("a.u32", 9)),
            "dir/f.gguf: key 'a.u32' has type uint32; an array is needed");
  EXPECT_EQ(message((*gguf)->GetStrings("a.ints", 9)),
            "dir/f.gguf: key 'a.ints' is an array of int32; strings are needed");
  EXPECT_EQ(message((*gguf)->GetStrings("a.strings", 2)),
            "dir/f.gguf: key 'a.strings' has 3 elements; at most 2 are allowed");
  EXPECT_EQ(message((*gguf)->GetFloats("a.ints", 9)),
            "dir/f.gguf: key 'a.ints' is an array of int32; float32 is needed");
  EXPECT_FALSE((*gguf)->GetInts("a.strings", 9).ok());
  EXPECT_EQ((*gguf)->GetIntOr("b", 0, 9, 4).value(), 4);
}

TEST(Gguf, NanIsOutsideEveryRange) {
  TestGguf file;
  file.SetF32("nan", std::nanf(""));
  const std::vector<uint8_t> bytes = file.Build();
  const auto gguf = GgufFile::Parse(bytes, "f");
  ASSERT_TRUE(gguf.ok());
  EXPECT_FALSE((*gguf)->GetFloat("nan", -1e300, 1e300).ok());
}

struct Hostile {
  const char* name;
  std::function<void(TestGguf&)> spoil;
  const char* message;  // a part of it
};

std::string NestedArrays(int depth) {
  ByteWriter bytes;
  for (int i = 0; i < depth; ++i) bytes.Add(GgufType::kArray).Add<uint64_t>(1);
  bytes.Add(GgufType::kUint8).Add<uint64_t>(1).Add<uint8_t>(1);
  return bytes.str();
}

const Hostile kHostile[] = {
    {"Magic", [](TestGguf& f) { f.magic = "GGUX"; }, "not a GGUF file"},
    {"OldMagic", [](TestGguf& f) { f.magic = "ggml"; }, "not a GGUF file"},
    {"Version1", [](TestGguf& f) { f.version = 1; }, "GGUF version 1; versions 2 and 3"},
    {"Version4", [](TestGguf& f) { f.version = 4; }, "GGUF version 4"},
    {"BigEndian", [](TestGguf& f) { f.version = 0x03000000; }, "big-endian"},
    {"TensorCountBeyondTheFile", [](TestGguf& f) { f.num_tensors = 60000; },
     "60000 tensors cannot fit"},
    {"TensorCountBeyondTheLimit", [](TestGguf& f) { f.num_tensors = 1ULL << 40; }, "at most 65536"},
    {"TensorCountHuge", [](TestGguf& f) { f.num_tensors = ~0ULL; }, "at most 65536"},
    {"TensorCountOneTooMany", [](TestGguf& f) { f.num_tensors = 3; }, "f.gguf: "},
    {"MetadataCountBeyondTheFile", [](TestGguf& f) { f.num_metadata = 16000; },
     "16000 metadata pairs cannot fit"},
    {"MetadataCountBeyondTheLimit", [](TestGguf& f) { f.num_metadata = 1ULL << 33; },
     "at most 16384"},
    {"MetadataCountHuge", [](TestGguf& f) { f.num_metadata = ~0ULL; }, "at most 16384"},
    {"MetadataCountOneTooMany", [](TestGguf& f) { f.num_metadata = 7; }, "f.gguf: "},
    {"EmptyKey", [](TestGguf& f) { f.metadata[0].key = ""; }, "has 0 bytes; 1 to 65535"},
    {"LongKey", [](TestGguf& f) { f.metadata[0].key = std::string(65536, 'k'); },
     "has 65536 bytes; 1 to 65535"},
    {"DuplicateKey", [](TestGguf& f) { f.metadata.push_back(f.metadata[1]); },
     "'a.u32' stands in the file twice"},
    {"ValueType", [](TestGguf& f) { f.metadata[0].type = 13; }, "value type 13"},
    {"ValueTypeHuge", [](TestGguf& f) { f.metadata[0].type = ~0U; }, "value type 4294967295"},
    {"BoolOfTwo", [](TestGguf& f) { f.SetBool("a.bool", 2); }, "'a.bool' has a bool of value 2"},
    {"BoolArrayOf255",
     [](TestGguf& f) {
       f.Set("b", GgufType::kArray,
             ByteWriter()
                 .Add(GgufType::kBool)
                 .Add<uint64_t>(2)
                 .Add<uint8_t>(1)
                 .Add<uint8_t>(255)
                 .str());
     },
     "'b' has a bool of value 255"},
    {"StringLengthHuge",
     [](TestGguf& f) { f.Set("z", GgufType::kString, ByteWriter().Add<uint64_t>(~0ULL).str()); },
     "ends after"},
    {"StringLengthBeyondTheFile",
     [](TestGguf& f) { f.Set("z", GgufType::kString, ByteWriter().Add<uint64_t>(1 << 20).str()); },
     "the string of key 'z'"},
    {"ArrayElementType",
     [](TestGguf& f) {
       f.Set("z", GgufType::kArray, ByteWriter().Add<uint32_t>(99).Add<uint64_t>(1).str());
     },
     "array element type 99"},
    {"ArrayCountHuge",
     [](TestGguf& f) {
       f.Set("z", GgufType::kArray, ByteWriter().Add(GgufType::kUint8).Add<uint64_t>(~0ULL).str());
     },
     "18446744073709551615 elements of type uint8, which cannot fit"},
    {"ArrayCountOverflowsInBytes",
     [](TestGguf& f) {
       f.Set("z", GgufType::kArray,
             ByteWriter().Add(GgufType::kUint64).Add<uint64_t>((1ULL << 61) + 1).str());
     },
     "cannot fit"},
    {"StringArrayCountHuge",
     [](TestGguf& f) {
       f.Set("z", GgufType::kArray,
             ByteWriter().Add(GgufType::kString).Add<uint64_t>(1ULL << 40).str());
     },
     "cannot fit"},
    {"StringInArrayTooLong",
     [](TestGguf& f) {
       f.Set("z", GgufType::kArray,
             ByteWriter().Add(GgufType::kString).Add<uint64_t>(1).Add<uint64_t>(1ULL << 50).str());
     },
     "string 0 of key 'z'"},
    {"ArraysNestTooDeep", [](TestGguf& f) { f.Set("z", GgufType::kArray, NestedArrays(5)); },
     "deeper than 4"},
    {"ArraysNestVeryDeep", [](TestGguf& f) { f.Set("z", GgufType::kArray, NestedArrays(20000)); },
     "deeper than 4"},
    {"ArrayOfArraysCountHuge",
     [](TestGguf& f) {
       f.Set("z", GgufType::kArray,
             ByteWriter().Add(GgufType::kArray).Add<uint64_t>(1ULL << 60).str());
     },
     "cannot fit"},
    {"AlignmentZero", [](TestGguf& f) { f.SetU32("general.alignment", 0); },
     "'general.alignment' is 0; must be in [8, 65536]"},
    {"AlignmentFour", [](TestGguf& f) { f.SetU32("general.alignment", 4); },
     "is 4; must be in [8, 65536]"},
    {"AlignmentNoPowerOfTwo", [](TestGguf& f) { f.SetU32("general.alignment", 24); },
     "is 24; must be a power of two"},
    {"AlignmentHuge", [](TestGguf& f) { f.SetU32("general.alignment", 1U << 31); },
     "must be in [8, 65536]"},
    {"AlignmentOfWrongType", [](TestGguf& f) { f.SetString("general.alignment", "32"); },
     "an integer is needed"},
    {"AlignmentBeyondTheFile", [](TestGguf& f) { f.SetU32("general.alignment", 65536); },
     "f.gguf: "},
    {"TensorNameEmpty", [](TestGguf& f) { f.tensors[0].name = ""; }, "name has 0 bytes; 1 to 255"},
    {"TensorNameLong", [](TestGguf& f) { f.tensors[0].name = std::string(256, 'n'); },
     "name has 256 bytes"},
    {"TensorTwice", [](TestGguf& f) { f.tensors[1].name = "m"; },
     "tensor 'm' stands in the file twice"},
    {"NoDimensions", [](TestGguf& f) { f.tensors[1].dims = {}; },
     "tensor 'v' has 0 dimensions; 1 to 4"},
    {"FiveDimensions", [](TestGguf& f) { f.tensors[1].dims = {1, 1, 1, 1, 1}; },
     "has 5 dimensions"},
    {"DimensionZero", [](TestGguf& f) { f.tensors[1].dims = {0}; }, "dimension 0 of 0"},
    {"SecondDimensionZero", [](TestGguf& f) { f.tensors[0].dims = {32, 0}; }, "dimension 1 of 0"},
    {"DimensionHuge", [](TestGguf& f) { f.tensors[1].dims = {~0ULL}; },
     "dimension 0 of 18446744073709551615"},
    {"DimensionsOverflow", [](TestGguf& f) { f.tensors[1].dims = {1ULL << 32, 1ULL << 32}; },
     "their product at most"},
    {"DimensionsOverflowToSmall", [](TestGguf& f) { f.tensors[1].dims = {1ULL << 62, 4, 5}; },
     "their product at most"},
    {"DimensionNegative", [](TestGguf& f) { f.tensors[1].dims = {1ULL << 63}; }, "dimension 0 of"},
    {"RowsNoMultipleOfTheBlock", [](TestGguf& f) { f.tensors[0].dims = {33, 4}; },
     "rows of 33 elements; Q4_0 needs a multiple of 32"},
    {"RowsNoMultipleOfTheSuperBlock",
     [](TestGguf& f) {
       f.tensors[0].type = 12;
       f.tensors[0].dims = {128, 1};
     },
     "rows of 128 elements; Q4_K needs a multiple of 256"},
    {"TypeIq2", [](TestGguf& f) { f.tensors[0].type = 16; },
     "tensor 'm' has type IQ2_XXS; supported types are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, "
     "Q5_1, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL"},
    {"TypeI32", [](TestGguf& f) { f.tensors[0].type = 26; }, "has type I32"},
    {"TypeWithdrawn", [](TestGguf& f) { f.tensors[0].type = 4; }, "has type number 4"},
    {"TypeUnknown", [](TestGguf& f) { f.tensors[0].type = 4000; }, "has type number 4000"},
    {"OffsetMisaligned", [](TestGguf& f) { f.tensors[1].offset = 100; },
     "tensor 'v' is at offset 100; it must be a multiple of the alignment 32"},
    {"OffsetBeyondTheFile", [](TestGguf& f) { f.tensors[1].offset = 4096; },
     "has 20 bytes at offset 4096; the file holds 116 bytes"},
    {"OffsetHuge", [](TestGguf& f) { f.tensors[1].offset = ~0ULL - 31; },
     "at offset 18446744073709551584"},
    {"DataBeyondTheFile", [](TestGguf& f) { f.tensors[1].dims = {6}; },
     "has 24 bytes at offset 96"},
    {"TensorsAtTheSamePlace", [](TestGguf& f) { f.tensors[1].offset = 0; },
     "tensors 'v' and 'm' overlap|tensors 'm' and 'v' overlap"},
    {"TensorsOverlapInPart", [](TestGguf& f) { f.tensors[1].offset = 64; },
     "tensors 'm' and 'v' overlap"},
    {"KeyWithControlCharacters", [](TestGguf& f) { f.Set("a\n\x1b[31m", GgufType::kBool, "\x07"); },
     "key 'a\\x0a\\x1b[31m' has a bool of value 7"},
};

class GgufHostile : public ::testing::TestWithParam<Hostile> {};

TEST_P(GgufHostile, IsRefusedInOneSentenceWithoutMuchMemory) {
  TestGguf file = SmallFile();
  GetParam().spoil(file);
  const std::vector<uint8_t> bytes = file.Build();
  AllocationPeak peak;
  const auto gguf = GgufFile::Parse(bytes, "f.gguf");
  EXPECT_LE(peak.bytes(), 2 * bytes.size() + 4096);
  ASSERT_FALSE(gguf.ok());
  const std::string message(gguf.status().message());
  EXPECT_THAT(message, AllOf(HasSubstr("f.gguf: "), Not(HasSubstr("\n"))));
  const std::string wanted = GetParam().message;
  const size_t bar = wanted.find('|');
  EXPECT_TRUE(
      message.find(wanted.substr(0, bar)) != std::string::npos ||
      (bar != std::string::npos && message.find(wanted.substr(bar + 1)) != std::string::npos))
      << message << "\n does not hold: " << wanted;
}

INSTANTIATE_TEST_SUITE_P(Files, GgufHostile, ::testing::ValuesIn(kHostile),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Gguf, EveryTruncationIsRefused) {
  const std::vector<uint8_t> bytes = SmallFile().Build();
  ASSERT_TRUE(GgufFile::Parse(bytes, "f").ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    const std::vector<uint8_t> cut(bytes.begin(),
                                   bytes.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(GgufFile::Parse(cut, "f").ok()) << size << " of " << bytes.size();
  }
}

TEST(Gguf, NoRandomDamageCrashesOrAllocatesMuch) {
  const std::vector<uint8_t> good = SmallFile().Build();
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> bytes = good;
    for (auto n = 1 + random() % 3; n > 0; --n)
      bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
    AllocationPeak peak;
    const auto gguf = GgufFile::Parse(bytes, "f");
    ASSERT_LE(peak.bytes(), 2 * bytes.size() + 4096) << "seed 7, iteration " << i;
    if (!gguf.ok()) continue;
    for (const GgufMetadata& entry : (*gguf)->metadata()) {
      (void)(*gguf)->GetStrings(entry.key, 100);
      (void)(*gguf)->GetInt(entry.key, 0, 100);
    }
    for (const ModelTensor& tensor : (*gguf)->tensors().tensors) {
      ASSERT_GE(tensor.data, bytes.data());
      ASSERT_LE(tensor.data + tensor.num_bytes, bytes.data() + bytes.size());
    }
  }
}

class GgufOpen : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "sluice_gguf_XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(GgufOpen, MapsAFile) {
  const std::vector<uint8_t> bytes = SmallFile().Build();
  const std::string path = folder_ / "f.gguf";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
  const auto gguf = GgufFile::Open(path);
  ASSERT_TRUE(gguf.ok()) << gguf.status();
  EXPECT_EQ((*gguf)->num_bytes(), static_cast<int64_t>(bytes.size()));
  EXPECT_EQ((*gguf)->tensors().tensors.size(), 2U);
}

TEST_F(GgufOpen, RefusesWhatIsNoFile) {
  EXPECT_EQ(GgufFile::Open(folder_ / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(GgufFile::Open(folder_).status().message()),
              HasSubstr("not a regular file"));
  const std::string empty = folder_ / "empty";
  std::ofstream{empty};
  EXPECT_THAT(std::string(GgufFile::Open(empty).status().message()),
              HasSubstr("the file is empty"));
  const std::string fifo = folder_ / "fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(std::string(GgufFile::Open(fifo).status().message()),
              HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace sluice
