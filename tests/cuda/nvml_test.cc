// What the management library says of a device, with a small library in its place.
#include "kernels/cuda/nvml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "tests/cuda/fake/nvml.h"

namespace sluice::cuda {
namespace {

using testing::HasSubstr;
using testing::Optional;

constexpr const char kBusId[] = "0000:01:00.0";

class DeviceMonitorTest : public testing::Test {
 protected:
  void SetUp() override {
    const auto library = OpenLibrary(SLUICE_FAKE_NVML);
    ASSERT_TRUE(library.ok()) << library.status();
    find_ = *library;
    state_ = static_cast<FakeNvmlState*>(find_("fake_nvml_state"));
    ASSERT_NE(state_, nullptr);
    *state_ = {};
  }
  void TearDown() override {
    EXPECT_EQ(state_->num_users, 0);
    EXPECT_EQ(state_->num_event_sets, 0);
  }
  [[nodiscard]] FindFunction Without(const std::string& missing) const {
    return [missing, find = find_](const char* name) {
      return std::string(name).find(missing) == std::string::npos ? find(name) : nullptr;
    };
  }

  FindFunction find_;
  FakeNvmlState* state_ = nullptr;
};

TEST_F(DeviceMonitorTest, ReadsWhatTheDeviceTells) {
  const auto monitor = DeviceMonitor::Open(kBusId, find_);
  ASSERT_TRUE(monitor.ok()) << monitor.status();
  const DeviceHealth health = (*monitor)->Read();
  EXPECT_THAT(health.utilisation, Optional(0.75));
  EXPECT_THAT(health.memory_utilisation, Optional(0.4));
  EXPECT_THAT(health.memory_used_bytes, Optional(uint64_t{30} << 30));
  EXPECT_THAT(health.memory_total_bytes, Optional(uint64_t{80} << 30));
  EXPECT_THAT(health.power_watts, Optional(312.5));
  EXPECT_THAT(health.temperature_celsius, Optional(61));
  EXPECT_THAT(health.clock_hertz, Optional(1755e6));
  EXPECT_THAT(health.memory_clock_hertz, Optional(2619e6));
  EXPECT_THAT(health.corrected_errors, Optional(7U));
  EXPECT_THAT(health.uncorrected_errors, Optional(2U));
  EXPECT_THAT(health.num_xid_errors, Optional(0U));
  EXPECT_FALSE(health.last_xid_error.has_value());
  EXPECT_FALSE(health.power_limit_watts.has_value());  // the library has no such function
  EXPECT_FALSE(health.lost);
}

TEST_F(DeviceMonitorTest, CountsXidErrorsAsTheyCome) {
  const auto monitor = DeviceMonitor::Open(kBusId, find_);
  ASSERT_TRUE(monitor.ok());
  state_->num_xid_errors = 2;
  DeviceHealth health = (*monitor)->Read();
  EXPECT_THAT(health.num_xid_errors, Optional(2U));
  EXPECT_THAT(health.last_xid_error, Optional(79U));
  state_->num_xid_errors = 1;
  health = (*monitor)->Read();
  EXPECT_THAT(health.num_xid_errors, Optional(3U));
  state_->num_xid_errors = 1 << 30;  // does not end
  health = (*monitor)->Read();
  EXPECT_THAT(health.num_xid_errors, Optional(1003U));
}

TEST_F(DeviceMonitorTest, WhatIsNotToldIsAbsent) {
  state_->has_ecc = false;
  state_->refuses_events = true;
  const auto monitor = DeviceMonitor::Open(kBusId, find_);
  ASSERT_TRUE(monitor.ok());
  DeviceHealth health = (*monitor)->Read();
  EXPECT_FALSE(health.corrected_errors.has_value());
  EXPECT_FALSE(health.uncorrected_errors.has_value());
  EXPECT_FALSE(health.num_xid_errors.has_value());
  EXPECT_TRUE(health.utilisation.has_value());
  for (const char* function : {"Utilization", "MemoryInfo", "Temperature", "Clock", "Event"}) {
    const auto less = DeviceMonitor::Open(kBusId, Without(function));
    ASSERT_TRUE(less.ok());
    EXPECT_TRUE((*less)->Read().power_watts.has_value());
  }
}

TEST_F(DeviceMonitorTest, ALostDeviceIsSaidToBe) {
  const auto monitor = DeviceMonitor::Open(kBusId, find_);
  ASSERT_TRUE(monitor.ok());
  state_->error = 15;  // NVML_ERROR_GPU_IS_LOST
  const DeviceHealth health = (*monitor)->Read();
  EXPECT_TRUE(health.lost);
  EXPECT_FALSE(health.temperature_celsius.has_value());
}

TEST_F(DeviceMonitorTest, WithoutLibraryDriverOrDeviceItSaysWhy) {
  EXPECT_EQ(DeviceMonitor::Open(kBusId, Without("nvmlInit")).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_THAT(DeviceMonitor::Open("0000:02:00.0", find_).status().message(),
              HasSubstr("the device at 0000:02:00.0: Not Found"));
  state_->init_error = 9;  // NVML_ERROR_DRIVER_NOT_LOADED
  const absl::Status status = DeviceMonitor::Open(kBusId, find_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(status.message(), HasSubstr("NVML does not start: Driver Not Loaded"));
}

}  // namespace
}  // namespace sluice::cuda
