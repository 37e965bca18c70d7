// SPDX-License-Identifier: Apache-2.0
//===- Container.cpp - a compiled module as a file ------------------------===//
#include "moe/Runtime/Container.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Endian.h"
#include "llvm/Support/JSON.h"
#include "llvm/Support/SHA256.h"

using namespace llvm;
using namespace moe;

static constexpr StringLiteral kMagic("MOEC1\n");
static constexpr size_t kLengthBytes = 8, kChecksumBytes = 32;

static std::array<uint8_t, 32> checksum(StringRef bytes) {
  return SHA256::hash(arrayRefFromStringRef(bytes));
}

void Container::write(raw_ostream &os) const {
  json::Object header{
      {"target", target},     {"cpu", cpu},
      {"features", features}, {"compiler", compiler},
      {"cuda", cuda},         {"object_size", int64_t(object.size())},
      {"manifest", manifest}};
  std::string headerText;
  raw_string_ostream(headerText) << json::Value(std::move(header));
  std::string bytes(kMagic);
  char length[kLengthBytes];
  support::endian::write64le(length, headerText.size());
  bytes.append(length, kLengthBytes);
  bytes += headerText;
  bytes += object;
  os << bytes << toStringRef(checksum(bytes));
}

Expected<Container> Container::read(StringRef bytes, StringRef name) {
  auto damaged = [&](const Twine &why) {
    return fail(MOE_LOAD_ERROR, "'" + name + "' " + why + "; compile it again");
  };
  StringRef rest = bytes;
  if (!rest.consume_front(kMagic))
    return damaged("is no compiled module: it does not start with MOEC1");
  if (rest.size() < kLengthBytes + kChecksumBytes)
    return damaged("is truncated");
  if (toStringRef(checksum(bytes.drop_back(kChecksumBytes))) !=
      bytes.take_back(kChecksumBytes))
    return damaged("is truncated or damaged: its checksum does not fit");
  uint64_t length = support::endian::read64le(rest.data());
  rest = rest.drop_front(kLengthBytes).drop_back(kChecksumBytes);
  if (length > rest.size())
    return damaged("has a malformed header: it says that it has " +
                   Twine(length) + " bytes, " + Twine(rest.size()) +
                   " are left");
  Expected<json::Value> value = json::parse(rest.take_front(length));
  if (!value)
    return damaged("has a malformed header: " + toString(value.takeError()));
  const json::Object *header = value->getAsObject();
  if (!header)
    return damaged("has a malformed header: it is no object");
  Container container;
  container.target = header->getString("target").value_or("").str();
  container.cpu = header->getString("cpu").value_or("").str();
  container.features = header->getString("features").value_or("").str();
  container.compiler = header->getString("compiler").value_or("").str();
  container.cuda = header->getInteger("cuda").value_or(0);
  container.manifest = header->getString("manifest").value_or("").str();
  container.object = rest.drop_front(length);
  int64_t size = header->getInteger("object_size").value_or(-1);
  if (size != static_cast<int64_t>(container.object.size()))
    return damaged("has an object of " + Twine(container.object.size()) +
                   " bytes, its header says " + Twine(size));
  return container;
}
