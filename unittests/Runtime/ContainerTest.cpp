// SPDX-License-Identifier: Apache-2.0
#include "moe/Runtime/Container.h"
#include "llvm/Support/raw_ostream.h"
#include "gtest/gtest.h"

using namespace llvm;
using moe::Container;

static std::string sample() {
  Container container;
  container.target = "cpu";
  container.cpu = "znver4";
  container.features = "+avx2";
  container.manifest = "{\"abi\": 1}";
  container.object = StringRef("\x7f"
                               "ELF\0 object",
                               12);
  std::string bytes;
  raw_string_ostream os(bytes);
  container.write(os);
  return bytes;
}

TEST(ContainerTest, RoundTrip) {
  std::string bytes = sample();
  Expected<Container> container = Container::read(bytes, "a.moe");
  ASSERT_TRUE(bool(container)) << toString(container.takeError());
  EXPECT_EQ(container->target, "cpu");
  EXPECT_EQ(container->cpu, "znver4");
  EXPECT_EQ(container->features, "+avx2");
  EXPECT_EQ(container->manifest, "{\"abi\": 1}");
  EXPECT_EQ(container->object.size(), 12u);
}

TEST(ContainerTest, EveryTruncationIsRefused) {
  std::string bytes = sample();
  for (size_t size = 0; size < bytes.size(); ++size) {
    Expected<Container> container =
        Container::read(StringRef(bytes).take_front(size), "a.moe");
    ASSERT_FALSE(bool(container)) << size;
    EXPECT_TRUE(
        StringRef(toString(container.takeError())).starts_with("'a.moe'"));
  }
}

TEST(ContainerTest, EveryFlippedBitIsRefused) {
  std::string bytes = sample();
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] ^= 1 << (bit % 8);
    Expected<Container> container = Container::read(damaged, "a.moe");
    ASSERT_FALSE(bool(container)) << bit;
    consumeError(container.takeError());
  }
}
