// SPDX-License-Identifier: Apache-2.0
#include "moe/Runtime/Container.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/SHA256.h"
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

/// A container of this header whose checksum fits; its error.
static std::string readError(StringRef header, StringRef object = "",
                             int64_t length = -1) {
  char bytes[8];
  support::endian::write64le(bytes, length < 0 ? header.size() : length);
  std::string text =
      "MOEC1\n" + std::string(bytes, 8) + header.str() + object.str();
  text += toStringRef(SHA256::hash(arrayRefFromStringRef(text)));
  Expected<Container> container = Container::read(text, "a.moe");
  return container ? "" : toString(container.takeError());
}

TEST(ContainerTest, SaysWhatIsWrong) {
  EXPECT_EQ(readError(R"({"object_size": 2})", "ab"), "");
  EXPECT_EQ(readError("{}", "ab"),
            "'a.moe' has an object of 2 bytes, its header says -1; compile it "
            "again");
  EXPECT_EQ(readError("[]"), "'a.moe' has a malformed header: it is no object; "
                             "compile it again");
  EXPECT_TRUE(StringRef(readError("{"))
                  .starts_with("'a.moe' has a malformed header: ["));
  EXPECT_EQ(
      readError("{}", "ab", 5),
      "'a.moe' has a malformed header: it says that it has 5 bytes, 4 are "
      "left; compile it again");
  auto of = [](StringRef bytes) {
    return toString(Container::read(bytes, "a.moe").takeError());
  };
  EXPECT_EQ(of("\x7f"
               "ELF"),
            "'a.moe' is no compiled module: it does not start "
            "with MOEC1; compile it again");
  std::string bytes = sample();
  EXPECT_EQ(of(StringRef(bytes).take_front(20)),
            "'a.moe' is truncated; compile it again");
  EXPECT_EQ(of(StringRef(bytes).drop_back()),
            "'a.moe' is truncated or damaged: its checksum does not fit; "
            "compile it again");
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
