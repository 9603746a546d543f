#include "scheduler/block_pool.h"

#include <gtest/gtest.h>

#include <vector>

namespace sluice {
namespace {

using Ids = std::vector<TokenId>;

TEST(BlockPool, FreeingASharedBlockKeepsItForTheOtherOwner) {
  BlockPool pool(2, 2);
  const BlockId block = pool.Allocate();
  pool.AddReference(block);
  pool.Release(block);
  EXPECT_EQ(pool.num_references(block), 1);
  EXPECT_EQ(pool.num_free(), 1);
  pool.Release(block);
  EXPECT_EQ(pool.num_free(), 2);
}

TEST(BlockPool, AllocatesUntilEveryBlockIsReferenced) {
  BlockPool pool(3, 2);
  EXPECT_EQ(pool.Allocate(), 0);
  EXPECT_EQ(pool.Allocate(), 1);
  EXPECT_EQ(pool.Allocate(), 2);
  EXPECT_EQ(pool.Allocate(), kNoBlock);
}

TEST(BlockPool, APublishedBlockIsCachedWhenReleasedAndFoundAgain) {
  BlockPool pool(2, 2);
  const BlockId block = pool.Allocate();
  pool.Publish(block, PrefixIndex::Root("a"), "a", Ids{1, 2});
  pool.Release(block);
  EXPECT_EQ(pool.num_cached(), 1);
  const PrefixMatch match = pool.Match("a", Ids{1, 2, 3});
  ASSERT_EQ(match.blocks, std::vector<BlockId>{block});
  pool.AddReference(block);
  EXPECT_EQ(pool.num_cached(), 0);
  EXPECT_EQ(pool.num_referenced(), 1);
}

TEST(BlockPool, EvictsTheLeastRecentlyUsedCachedBlockOnlyWhenNoneIsFree) {
  BlockPool pool(3, 1);
  for (TokenId token = 0; token < 3; ++token) {
    pool.Publish(pool.Allocate(), PrefixIndex::Root(""), "", Ids{token});
  }
  for (const BlockId block : {1, 0, 2}) pool.Release(block);
  pool.AddReference(1);  // used again: now the most recent
  pool.Release(1);
  EXPECT_EQ(pool.Allocate(), 0);
  EXPECT_EQ(pool.Allocate(), 2);
  EXPECT_TRUE(pool.Match("", Ids{0}).blocks.empty());
  EXPECT_EQ(pool.Match("", Ids{1}).blocks, std::vector<BlockId>{1});
  pool.CheckInvariants(std::vector<int32_t>{1, 0, 1});
}

TEST(BlockPool, AnUnpublishedBlockBecomesFree) {
  BlockPool pool(1, 1);
  const BlockId block = pool.Allocate();
  pool.Publish(block, PrefixIndex::Root(""), "", Ids{5});
  pool.Unpublish(block);
  pool.Release(block);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_TRUE(pool.Match("", Ids{5}).blocks.empty());
}

TEST(PrefixIndex, MatchesWholeBlocksOfEqualPrefixes) {
  PrefixIndex index(4, 2);
  const PrefixNode first = index.Insert(0, PrefixIndex::Root("t"), "t", Ids{1, 2}).node;
  index.Insert(1, first, "t", Ids{3, 4});
  EXPECT_EQ(index.Match("t", Ids{1, 2, 3, 4, 5}).blocks, (std::vector<BlockId>{0, 1}));
  EXPECT_EQ(index.Match("t", Ids{1, 2, 3}).blocks, (std::vector<BlockId>{0}));
  EXPECT_EQ(index.Match("t", Ids{1, 2, 9, 4}).blocks, (std::vector<BlockId>{0}));
  EXPECT_TRUE(index.Match("t", Ids{3, 4}).blocks.empty())
      << "the same tokens at another place are another prefix";
}

TEST(PrefixIndex, TenantsDoNotSeeEachOthersPrefixes) {
  PrefixIndex index(2, 1);
  index.Insert(0, PrefixIndex::Root("a"), "a", Ids{1});
  EXPECT_TRUE(index.Match("b", Ids{1}).blocks.empty());
  EXPECT_TRUE(index.Match("", Ids{1}).blocks.empty());
}

TEST(PrefixIndex, KeepsTheFirstOfTwoEqualBlocks) {
  PrefixIndex index(2, 1);
  const auto first = index.Insert(0, PrefixIndex::Root(""), "", Ids{1});
  const auto second = index.Insert(1, PrefixIndex::Root(""), "", Ids{1});
  EXPECT_EQ(first.node.entry, second.node.entry);
  EXPECT_FALSE(index.Contains(1));
}

// As after a collision of keys: the hash is equal, what it stands for is not.
TEST(PrefixIndex, BelievesNoKeyWhoseParentOrSaltIsAnother) {
  PrefixIndex index(4, 1);
  const PrefixNode parent = index.Insert(0, PrefixIndex::Root("a"), "a", Ids{1}).node;
  index.Insert(1, parent, "a", Ids{2});
  index.Erase(0);
  index.Insert(2, PrefixIndex::Root("a"), "a", Ids{1});
  EXPECT_EQ(index.Match("a", Ids{1, 2}).blocks, (std::vector<BlockId>{2}))
      << "block 1 hangs on an entry that is gone";

  const PrefixNode root_of_a = PrefixIndex::Root("a");
  const auto forged = index.Insert(3, root_of_a, "b", Ids{1});
  EXPECT_EQ(forged.displaced, 2) << "an equal key with another salt is another prefix";
  EXPECT_TRUE(index.Match("a", Ids{1}).blocks.empty());
}

TEST(PrefixIndex, AChildOfALostParentGivesWayToItsSuccessor) {
  PrefixIndex index(4, 1);
  const PrefixNode parent = index.Insert(0, PrefixIndex::Root(""), "", Ids{1}).node;
  index.Insert(1, parent, "", Ids{2});
  index.Erase(0);
  const PrefixNode again = index.Insert(2, PrefixIndex::Root(""), "", Ids{1}).node;
  EXPECT_EQ(index.Insert(3, again, "", Ids{2}).displaced, 1);
  EXPECT_EQ(index.Match("", Ids{1, 2}).blocks, (std::vector<BlockId>{2, 3}));
  EXPECT_EQ(index.size(), 2);
}

}  // namespace
}  // namespace sluice
