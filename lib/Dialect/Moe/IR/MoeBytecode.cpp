// SPDX-License-Identifier: Apache-2.0
// The `moe` dialect in MLIR bytecode. What is written here is read by every
// later release: codes and the order of fields never change. New ones are
// added at the end, with a new version.
#include "MoeBytecode.h"
#include "moe/Dialect/Moe/IR/Bytecode.h"
#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Bytecode/BytecodeImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

namespace {
enum class TypeCode : uint64_t { Assignment = 0 };

enum class AttrCode : uint64_t {
  RowOrder = 0,
  WeightLayout = 1,
  Score = 2,
  RouteOrder = 3,
  MaskedGroups = 4,
  Drop = 5,
  Port = 6,
  Columns = 7,
  /// Version 1: a dictionary of numbers for what is now `cooperative`.
  Config1 = 8,
  Variant = 9,
  Config = 10,
  /// Version 3: a variant with parts, behind the fields of one without.
  VariantOfParts = 11,
};

struct MoeBytecodeInterface : BytecodeDialectInterface {
  MoeBytecodeInterface(Dialect *dialect) : BytecodeDialectInterface(dialect) {}

  //===--------------------------------------------------------------------===//
  // Types
  //===--------------------------------------------------------------------===//

  LogicalResult writeType(Type type,
                          DialectBytecodeWriter &writer) const override {
    auto assignment = dyn_cast<AssignmentType>(type);
    if (!assignment)
      return failure();
    writer.writeVarInt(static_cast<uint64_t>(TypeCode::Assignment));
    writer.writeSignedVarInt(assignment.getTokens());
    writer.writeSignedVarInt(assignment.getK());
    writer.writeSignedVarInt(assignment.getExperts());
    return success();
  }

  Type readType(DialectBytecodeReader &reader) const override {
    uint64_t code;
    int64_t tokens, k, experts;
    if (failed(reader.readVarInt(code)))
      return {};
    if (code != static_cast<uint64_t>(TypeCode::Assignment)) {
      reader.emitError() << "unknown code " << code << " of a moe type";
      return {};
    }
    if (failed(reader.readSignedVarInt(tokens)) ||
        failed(reader.readSignedVarInt(k)) ||
        failed(reader.readSignedVarInt(experts)))
      return {};
    return AssignmentType::getChecked([&] { return reader.emitError(); },
                                      getContext(), tokens, k, experts);
  }

  //===--------------------------------------------------------------------===//
  // Attributes
  //===--------------------------------------------------------------------===//

  LogicalResult writeAttribute(Attribute attr,
                               DialectBytecodeWriter &writer) const override {
    auto code = [&](AttrCode code) {
      writer.writeVarInt(static_cast<uint64_t>(code));
    };
    auto number = [&](auto value) {
      writer.writeVarInt(static_cast<uint64_t>(value));
    };
    auto one = [&](AttrCode attrCode, auto attr) {
      code(attrCode);
      number(attr.getValue());
      return success();
    };
    return llvm::TypeSwitch<Attribute, LogicalResult>(attr)
        .Case([&](RowOrderAttr a) { return one(AttrCode::RowOrder, a); })
        .Case(
            [&](WeightLayoutAttr a) { return one(AttrCode::WeightLayout, a); })
        .Case([&](ScoreAttr a) { return one(AttrCode::Score, a); })
        .Case([&](RouteOrderAttr a) { return one(AttrCode::RouteOrder, a); })
        .Case(
            [&](MaskedGroupsAttr a) { return one(AttrCode::MaskedGroups, a); })
        .Case([&](DropAttr a) { return one(AttrCode::Drop, a); })
        .Case([&](PortAttr port) {
          code(AttrCode::Port);
          number(port.getKind());
          number(port.getOrder());
          number(port.getLayout());
          writer.writeSignedVarInt(port.getCount());
          return success();
        })
        .Case([&](ColumnsAttr columns) {
          code(AttrCode::Columns);
          number(columns.getLayout());
          writer.writeSignedVarInt(columns.getCount());
          return success();
        })
        .Case([&](ConfigAttr config) {
          code(AttrCode::Config);
          writer.writeAttributes(config.getVariants());
          return success();
        })
        .Case([&](VariantAttr variant) {
          code(variant.getParts() ? AttrCode::VariantOfParts
                                  : AttrCode::Variant);
          number(variant.getStructure());
          for (int64_t value : {variant.getTileRows(), variant.getTileColumns(),
                                variant.getStages(), variant.getBuffers()})
            writer.writeSignedVarInt(value);
          writer.writeOptionalAttribute(variant.getReason());
          number(variant.getGuard());
          writer.writeSignedVarInt(variant.getAtLeast());
          if (variant.getParts())
            writer.writeSignedVarInt(variant.getParts());
          return success();
        })
        .Default([](Attribute) { return failure(); });
  }

  Attribute readAttribute(DialectBytecodeReader &reader) const override {
    uint64_t code;
    if (failed(reader.readVarInt(code)))
      return {};
    switch (static_cast<AttrCode>(code)) {
    case AttrCode::RowOrder:
      return readEnum<RowOrderAttr>(reader, symbolizeRowOrder);
    case AttrCode::WeightLayout:
      return readEnum<WeightLayoutAttr>(reader, symbolizeWeightLayout);
    case AttrCode::Score:
      return readEnum<ScoreAttr>(reader, symbolizeScore);
    case AttrCode::RouteOrder:
      return readEnum<RouteOrderAttr>(reader, symbolizeRouteOrder);
    case AttrCode::MaskedGroups:
      return readEnum<MaskedGroupsAttr>(reader, symbolizeMaskedGroups);
    case AttrCode::Drop:
      return readEnum<DropAttr>(reader, symbolizeDrop);
    case AttrCode::Port:
      return readPort(reader);
    case AttrCode::Columns:
      return readColumns(reader);
    case AttrCode::Config1:
      return readConfig1(reader);
    case AttrCode::Variant:
      return readVariant(reader, /*ofParts=*/false);
    case AttrCode::VariantOfParts:
      return readVariant(reader, /*ofParts=*/true);
    case AttrCode::Config: {
      SmallVector<VariantAttr> variants;
      if (failed(reader.readAttributes(variants)))
        return {};
      return ConfigAttr::getChecked([&] { return reader.emitError(); },
                                    getContext(), ArrayRef(variants));
    }
    }
    reader.emitError() << "unknown code " << code << " of a moe attribute";
    return {};
  }

private:
  /// A case of an enumeration by its number; symbolize tells whether there is
  /// one.
  template <typename Enum>
  static std::optional<Enum>
  readCase(DialectBytecodeReader &reader,
           std::optional<Enum> (*symbolize)(uint32_t)) {
    uint64_t value;
    if (failed(reader.readVarInt(value)))
      return std::nullopt;
    std::optional<Enum> known;
    if (value <= std::numeric_limits<uint32_t>::max())
      known = symbolize(static_cast<uint32_t>(value));
    if (!known)
      reader.emitError() << "unknown case " << value << " of a moe enumeration";
    return known;
  }

  template <typename Attr, typename Enum>
  Attribute readEnum(DialectBytecodeReader &reader,
                     std::optional<Enum> (*symbolize)(uint32_t)) const {
    std::optional<Enum> value = readCase(reader, symbolize);
    return value ? Attribute(Attr::get(getContext(), *value)) : Attribute();
  }

  Attribute readPort(DialectBytecodeReader &reader) const {
    auto kind = readCase<PortKind>(reader, symbolizePortKind);
    if (!kind)
      return {};
    auto order = readCase<RowOrder>(reader, symbolizeRowOrder);
    if (!order)
      return {};
    auto layout = readCase<ColumnLayout>(reader, symbolizeColumnLayout);
    int64_t count;
    if (!layout || failed(reader.readSignedVarInt(count)))
      return {};
    return PortAttr::getChecked([&] { return reader.emitError(); },
                                getContext(), *kind, *order, *layout, count);
  }

  Attribute readColumns(DialectBytecodeReader &reader) const {
    auto layout = readCase<ColumnLayout>(reader, symbolizeColumnLayout);
    int64_t count;
    if (!layout || failed(reader.readSignedVarInt(count)))
      return {};
    return ColumnsAttr::get(getContext(), *layout, count);
  }

  Attribute readVariant(DialectBytecodeReader &reader, bool ofParts) const {
    auto structure = readCase<Structure>(reader, symbolizeStructure);
    int64_t tileRows, tileColumns, stages, buffers, atLeast, parts = 0;
    StringAttr reason;
    if (!structure || failed(reader.readSignedVarInt(tileRows)) ||
        failed(reader.readSignedVarInt(tileColumns)) ||
        failed(reader.readSignedVarInt(stages)) ||
        failed(reader.readSignedVarInt(buffers)) ||
        failed(reader.readOptionalAttribute(reason)))
      return {};
    auto guard = readCase<HostValue>(reader, symbolizeHostValue);
    if (!guard || failed(reader.readSignedVarInt(atLeast)) ||
        (ofParts && failed(reader.readSignedVarInt(parts))))
      return {};
    return VariantAttr::getChecked(
        [&] { return reader.emitError(); }, getContext(), *structure, tileRows,
        tileColumns, stages, buffers, parts, reason, *guard, atLeast);
  }

  Attribute readConfig1(DialectBytecodeReader &reader) const {
    DictionaryAttr values;
    if (failed(reader.readAttribute(values)))
      return {};
    auto number = [&](StringRef name) -> int64_t {
      auto value = values.getAs<IntegerAttr>(name);
      return value ? value.getInt() : 0;
    };
    constexpr int64_t kNone = 0;
    auto variant = VariantAttr::getChecked(
        [&] { return reader.emitError(); }, getContext(),
        Structure::Cooperative, kNone, kNone, number("stages"),
        number("buffers"), kNone, StringAttr(), HostValue::None, kNone);
    return variant ? Attribute(ConfigAttr::get(getContext(), variant))
                   : Attribute();
  }

  //===--------------------------------------------------------------------===//
  // Version
  //===--------------------------------------------------------------------===//

public:
  void writeVersion(DialectBytecodeWriter &writer) const override {
    auto asked = writer.getDialectVersion<MoeDialect>();
    writer.writeVarInt(
        succeeded(asked)
            ? static_cast<const MoeDialectVersion *>(*asked)->number
            : MoeDialectVersion::current);
  }

  std::unique_ptr<DialectVersion>
  readVersion(DialectBytecodeReader &reader) const override {
    uint64_t number;
    if (failed(reader.readVarInt(number)))
      return nullptr;
    if (number > MoeDialectVersion::current) {
      reader.emitError() << "bytecode of version " << number
                         << " of the moe dialect, newer than version "
                         << MoeDialectVersion::current
                         << " that is read here; update moe-mlir";
      return nullptr;
    }
    return std::make_unique<MoeDialectVersion>(number);
  }
};
} // namespace

void mlir::moe::addBytecodeInterface(MoeDialect *dialect) {
  dialect->addInterfaces<MoeBytecodeInterface>();
}
