#include "base/api_keys.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "base/errors.h"

namespace sluice {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

// coreutils: printf %s alpha-key | sha256sum
constexpr const char* kAlpha = "677509799af78b2efa2f2af71d0f906e0a0c50c048efd3b515625f788e92b99a";
// printf %s beta-key | sha256sum
constexpr const char* kBeta = "7a3d637bc601f7000cc2c33141c8c8a7554e02e319fa8b293a0c88c613b77620";

class ApiKeysTest : public ::testing::Test {
 protected:
  void SetUp() override { path_ = fmt::format("{}sluice_keys_{}", ::testing::TempDir(), getpid()); }
  void TearDown() override { std::remove(path_.c_str()); }
  void Write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }
  absl::Status LoadStatus(const std::string& text) {
    Write(text);
    return ApiKeys::Load(path_).status();
  }
  std::string path_;
};

TEST_F(ApiKeysTest, WithoutAFileEveryCallerIsAnonymous) {
  const auto keys = ApiKeys::Load("");
  ASSERT_TRUE(keys.ok());
  EXPECT_FALSE((*keys)->required());
  const auto identity = (*keys)->Authenticate("anything");
  ASSERT_TRUE(identity.ok());
  EXPECT_EQ(identity->name, "anonymous");
  EXPECT_EQ(identity->tenant, "default");
  EXPECT_TRUE((*keys)->Reload().ok());
}

TEST_F(ApiKeysTest, AKeyGivesItsNameAndTenant) {
  Write(fmt::format("# keys\n\n  alice\t{}  red # first\r\nbob {} blue", kAlpha, kBeta));
  const auto keys = ApiKeys::Load(path_);
  ASSERT_TRUE(keys.ok()) << keys.status();
  EXPECT_TRUE((*keys)->required());
  const auto alice = (*keys)->Authenticate("Bearer alpha-key");
  ASSERT_TRUE(alice.ok()) << alice.status();
  EXPECT_EQ(alice->name, "alice");
  EXPECT_EQ(alice->tenant, "red");
  const auto bob = (*keys)->Authenticate("bEARER   beta-key ");
  ASSERT_TRUE(bob.ok()) << bob.status();
  EXPECT_EQ(bob->tenant, "blue");
}

TEST_F(ApiKeysTest, RefusesMissingMalformedAndUnknownKeysWithoutRepeatingThem) {
  Write(fmt::format("alice {} red\n", kAlpha));
  const auto keys = ApiKeys::Load(path_);
  ASSERT_TRUE(keys.ok());
  const auto missing = (*keys)->Authenticate("").status();
  EXPECT_EQ(missing.code(), absl::StatusCode::kUnauthenticated);
  EXPECT_EQ(ErrorCode(missing), "missing_api_key");
  for (const std::string& value :
       {std::string("Bearer"), std::string("Bearer "), std::string("Bearer    "),
        std::string("Basic alpha-key"), std::string("alpha-key"), std::string("Beareralpha-key"),
        std::string("Bearer alpha-key2"), std::string("Bearer alpha-ke"),
        std::string("Bearer ALPHA-KEY"), std::string("Bearer alpha-key\0", 17),
        "Bearer " + std::string(kAlpha), "Bearer " + std::string(100'000, 'k')}) {
    const auto status = (*keys)->Authenticate(value).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated) << value.substr(0, 40);
    EXPECT_EQ(ErrorCode(status), "invalid_api_key");
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("alpha")));
  }
}

TEST_F(ApiKeysTest, HostileFilesAreRefusedWithFileAndLine) {
  const struct {
    std::string text, where, what;
  } kCases[] = {
      {"\nalice\n", ":2", "a line is"},
      {fmt::format("alice {} red extra\n", kAlpha), ":1", "a line is"},
      {"alice 1234 red\n", ":1", "SHA-256"},
      {fmt::format("alice {}g red\n", std::string(kAlpha).substr(1)), ":1", "SHA-256"},
      {fmt::format("alice {}00 red\n", kAlpha), ":1", "SHA-256"},
      {fmt::format("{} {} red\n", std::string(65, 'a'), kAlpha), ":1", "1 to 64"},
      {fmt::format("al\x1b[2Jice {} red\n", kAlpha), ":1", "1 to 64"},
      {fmt::format("alice {} r\xc3\xa9"
                   "d\n",
                   kAlpha),
       ":1", "1 to 64"},
      {std::string("alice\0 ", 7) + kAlpha + " red\n", ":1", "1 to 64"},
      {"\xEF\xBB\xBF" + fmt::format("alice {} red\n", kAlpha), ":1", "1 to 64"},
      {fmt::format("alice {} red\n\nalice {} blue\n", kAlpha, kBeta), ":3",
       "the name is the one of line 1"},
      {fmt::format("alice {} red\nbob {} blue\n", kAlpha, kAlpha), ":2",
       "the key is the one of line 1"},
      {"", "", "has no keys"},
      {"# only a comment", "", "has no keys"},
      {std::string((1U << 20U) + 1, '\n'), "", "larger than 1048576 bytes"},
  };
  for (const auto& c : kCases) {
    const absl::Status status = LoadStatus(c.text);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr(path_ + c.where)) << c.what;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.what));
  }
}

TEST_F(ApiKeysTest, AKeyWrittenInPlaceOfItsHashIsNotRepeated) {
  const absl::Status status = LoadStatus("alice my-secret-key red\n");
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("secret")));
}

TEST_F(ApiKeysTest, TooManyKeysAreRefused) {
  std::string text;
  for (int i = 0; i < 4097; ++i) text += fmt::format("k{} {:064x} t\n", i, i);
  const absl::Status status = LoadStatus(text);
  EXPECT_THAT(std::string(status.message()), HasSubstr(":4097: there are more than 4096 keys"));
}

TEST_F(ApiKeysTest, AMissingFileIsNotFoundAndOtherKindsOfFileAreRefused) {
  EXPECT_EQ(ApiKeys::Load(path_ + ".absent").status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(ApiKeys::Load(::testing::TempDir()).status().message()),
              HasSubstr("not a regular file"));
  EXPECT_FALSE(ApiKeys::Load("/dev/zero").ok());
  ASSERT_EQ(mkfifo(path_.c_str(), 0600), 0);
  EXPECT_THAT(std::string(ApiKeys::Load(path_).status().message()), EndsWith("not a regular file"));
}

TEST_F(ApiKeysTest, ReloadTakesNewKeysAndABrokenFileKeepsTheOldOnes) {
  Write(fmt::format("alice {} red\n", kAlpha));
  const auto keys = ApiKeys::Load(path_);
  ASSERT_TRUE(keys.ok());
  Write(fmt::format("bob {} blue\nbroken\n", kBeta));
  EXPECT_EQ((*keys)->Reload().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE((*keys)->Authenticate("Bearer alpha-key").ok());
  EXPECT_FALSE((*keys)->Authenticate("Bearer beta-key").ok());
  Write("");
  EXPECT_FALSE((*keys)->Reload().ok());
  EXPECT_TRUE((*keys)->Authenticate("Bearer alpha-key").ok());
  std::remove(path_.c_str());
  EXPECT_EQ((*keys)->Reload().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE((*keys)->Authenticate("Bearer alpha-key").ok());
  Write(fmt::format("bob {} blue\n", kBeta));
  EXPECT_TRUE((*keys)->Reload().ok());
  EXPECT_FALSE((*keys)->Authenticate("Bearer alpha-key").ok());
  EXPECT_TRUE((*keys)->Authenticate("Bearer beta-key").ok());
}

}  // namespace
}  // namespace sluice
