// The files of devices and shapes, ours and others'.
#include "apps/simulation.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "apps/config.h"

namespace sluice {
namespace {

// A file with the text of a built-in one, changed.
class SimulationFileTest : public ::testing::Test {
 protected:
  ~SimulationFileTest() override { std::remove(path_.c_str()); }

  std::string Write(std::string text, const std::string& old_text, const std::string& new_text) {
    const size_t at = text.find(old_text);
    EXPECT_NE(at, std::string::npos) << old_text;
    text.replace(at, old_text.size(), new_text);
    std::ofstream(path_) << text;
    return path_;
  }
  static std::string TextOf(std::span<const SimulationFile> files, std::string_view name) {
    for (const SimulationFile& file : files) {
      if (file.name == name) return std::string(file.text);
    }
    return "";
  }

  const std::string path_ = ::testing::TempDir() +
                            ::testing::UnitTest::GetInstance()->current_test_info()->name() +
                            ".toml";  // cases run side by side
};

TEST_F(SimulationFileTest, EveryBuiltInFileIsRead) {
  EXPECT_GE(DeviceFiles().size(), 4U);
  EXPECT_GE(ShapeFiles().size(), 5U);
  for (const SimulationFile& file : DeviceFiles()) {
    const auto device = LoadDevice(std::string(file.name));
    ASSERT_TRUE(device.ok()) << device.status();
    EXPECT_EQ(device->name, file.name);
  }
  for (const SimulationFile& file : ShapeFiles()) {
    const auto shape = LoadShape(std::string(file.name));
    ASSERT_TRUE(shape.ok()) << shape.status();
    EXPECT_EQ(shape->name, file.name);
  }
}

TEST_F(SimulationFileTest, ShapesHaveTheParametersTheirNamesSay) {
  for (const auto& [name, billions] :
       {std::pair("llama-3.1-8b", 8.03), {"llama-3.1-70b", 70.55}, {"qwen2.5-7b", 7.61}}) {
    const auto shape = LoadShape(name);
    ASSERT_TRUE(shape.ok());
    EXPECT_NEAR(static_cast<double>(shape->WeightBytes()) / 2e9, billions, 0.01) << name;
  }
}

TEST_F(SimulationFileTest, ReadsAFileOfTheUser) {
  const auto device = LoadDevice(Write(TextOf(DeviceFiles(), "h100"), "3.35e12", "1e12"));
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ(device->bandwidth_bytes_per_s, 1e12);
}

TEST_F(SimulationFileTest, NamesWhatThereIs) {
  const auto device = LoadDevice("h1000");
  EXPECT_EQ(device.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(device.status().message(),
            "sim-device \"h1000\" is neither a file nor one of a100 h100 h200 l4");
}

TEST_F(SimulationFileTest, RefusesWrongDevices) {
  const std::string good = TextOf(DeviceFiles(), "h100");
  const auto error = [&](const std::string& old_text, const std::string& new_text) {
    const auto device = LoadDevice(Write(good, old_text, new_text));
    EXPECT_FALSE(device.ok()) << new_text;
    return std::string(device.status().message()).substr(path_.size());
  };
  EXPECT_EQ(error("3.35e12", "0"),
            ": bandwidth-bytes-per-s must be a number between 1e+06 and 1e+18");
  EXPECT_EQ(error("3.35e12", "nan"),
            ": bandwidth-bytes-per-s must be a number between 1e+06 and 1e+18");
  EXPECT_EQ(error("row-s = ", "rows = "), ": unknown key \"rows\"");
  EXPECT_EQ(error("row-s = 1e-6", ""), ": row-s is not set");
  EXPECT_EQ(error("in-flight = 2", "in-flight = 2.5"),
            ": max-steps-in-flight must be a whole number");
  EXPECT_EQ(error("in-flight = 2", "in-flight = ").substr(0, 7), ": line ");
}

TEST_F(SimulationFileTest, RefusesWrongShapes) {
  const std::string good = TextOf(ShapeFiles(), "llama-3.1-8b");
  const auto error = [&](const std::string& old_text, const std::string& new_text) {
    const auto shape = LoadShape(Write(good, old_text, new_text));
    EXPECT_FALSE(shape.ok()) << new_text;
    return std::string(shape.status().message()).substr(path_.size());
  };
  EXPECT_EQ(error("num-kv-heads = 8", "num-kv-heads = 5"),
            ": num-q-heads must be a multiple of num-kv-heads");
  EXPECT_EQ(error("tied-head = false", "tied-head = 0"), ": tied-head must be true or false");
  EXPECT_EQ(error("tied-head", "num-experts = 8\ntied-head"),
            ": num-experts, num-used-experts and expert-ffn-dim belong together");
}

TEST(SimulationSettings, AreForTheSimulatedBackendOnly) {
  const auto none = [](const char*) -> const char* { return nullptr; };
  const auto error = [&](const RawSettings& flags) {
    return std::string(LoadConfig(flags, none, "").status().message());
  };
  EXPECT_EQ(error({{"sim-device", "h100"}}),
            "sim-device and model-shape are for backend sim; backend is auto");
  EXPECT_EQ(error({{"backend", "cpu"}, {"model-shape", "llama-3.1-8b"}}),
            "sim-device and model-shape are for backend sim; backend is cpu");
  EXPECT_EQ(error({{"backend", "sim"}, {"model-shape", "llama-3.1-8b"}, {"quantize", "q8_0"}}),
            "quantize and model-shape both say what the weights take");
  EXPECT_EQ(error({{"backend", "sim"}, {"sim-device", "l4"}}), "");
}

}  // namespace
}  // namespace sluice
