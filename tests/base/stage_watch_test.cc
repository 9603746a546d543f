#include "base/stage_watch.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(StageWatch, NamesAStageThatIsLateAndNoneThatRests) {
  StageWatch watch;
  const auto a = watch.Add("a"), b = watch.Add("b");
  const absl::Time now = absl::UnixEpoch() + absl::Hours(1);
  EXPECT_EQ(watch.Late(absl::InfiniteFuture() - absl::Seconds(1)), "");
  a->Expect(now + absl::Seconds(2));
  b->Expect(now + absl::Seconds(1));
  EXPECT_EQ(watch.Late(now + absl::Seconds(1)), "");
  EXPECT_EQ(watch.Late(now + absl::Seconds(1.5)), "b");
  b->Rest();
  EXPECT_EQ(watch.Late(now + absl::Seconds(1.5)), "");
  EXPECT_EQ(watch.Late(now + absl::Seconds(3)), "a");
}

TEST(PlantedStall, IsTheNumberOfItsOwnStage) {
  EXPECT_EQ(PlantedStall("stall-io=3", "io"), 3);
  EXPECT_EQ(PlantedStall("stall-io=3", "pump"), 0);
  EXPECT_EQ(PlantedStall("stall-step=3", "io"), 0);
  EXPECT_EQ(PlantedStall("stall-io=", "io"), 0);
  EXPECT_EQ(PlantedStall("stall-io=3x", "io"), 0);
  EXPECT_EQ(PlantedStall("", "io"), 0);
}

}  // namespace
}  // namespace sluice
