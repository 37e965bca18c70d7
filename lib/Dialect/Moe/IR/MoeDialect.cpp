// SPDX-License-Identifier: Apache-2.0
// The `moe` dialect itself, its types and attributes.
#include "MoeBytecode.h"
#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Transforms/InliningUtils.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

#include "moe/Dialect/Moe/IR/MoeDialect.cpp.inc"
#include "moe/Dialect/Moe/IR/MoeEnums.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "moe/Dialect/Moe/IR/MoeTypes.cpp.inc"
#define GET_ATTRDEF_CLASSES
#include "moe/Dialect/Moe/IR/MoeAttrs.cpp.inc"

namespace {
/// Every op of the dialect may be inlined anywhere.
struct MoeInlinerInterface : DialectInlinerInterface {
  using DialectInlinerInterface::DialectInlinerInterface;
  bool isLegalToInline(Operation *, Region *, bool, IRMapping &) const final {
    return true;
  }
  bool isLegalToInline(Region *, Region *, bool, IRMapping &) const final {
    return true;
  }
};
} // namespace

void MoeDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "moe/Dialect/Moe/IR/MoeTypes.cpp.inc"
      >();
  addAttributes<
#define GET_ATTRDEF_LIST
#include "moe/Dialect/Moe/IR/MoeAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "moe/Dialect/Moe/IR/MoeOps.cpp.inc"
      >();
  addInterfaces<MoeInlinerInterface>();
  addBytecodeInterface(this);
}

Operation *MoeDialect::materializeConstant(OpBuilder &builder, Attribute value,
                                           Type type, Location loc) {
  return arith::ConstantOp::materialize(builder, value, type, loc);
}

//===----------------------------------------------------------------------===//
// Discardable attributes
//===----------------------------------------------------------------------===//

/// `moe.dims`: a name or size for each dimension of a tensor.
static LogicalResult verifyDims(Operation *op, Attribute attr, Type type) {
  auto dims = dyn_cast<ArrayAttr>(attr);
  auto shaped = dyn_cast<ShapedType>(type);
  if (!dims || !shaped || !shaped.hasRank() ||
      static_cast<int64_t>(dims.size()) != shaped.getRank())
    return op->emitOpError() << "moe.dims wants one name or size for each "
                                "dimension of "
                             << type << ", got " << attr;
  for (auto [dim, size] : llvm::zip_equal(dims, shaped.getShape())) {
    if (auto number = dyn_cast<IntegerAttr>(dim)) {
      if (number.getInt() != size)
        return op->emitOpError()
               << "moe.dims says " << number.getInt() << " where the type "
               << type << " says "
               << (ShapedType::isDynamic(size) ? std::string("?")
                                               : std::to_string(size));
      continue;
    }
    if (!isa<StringAttr>(dim))
      return op->emitOpError()
             << "moe.dims wants names (strings) or sizes (integers), got "
             << dim;
  }
  return success();
}

static LogicalResult verifyBoundaryAttr(Operation *op, NamedAttribute attr,
                                        Type type) {
  StringRef name = attr.getName();
  if (name == "moe.dims")
    return verifyDims(op, attr.getValue(), type);
  if (name == "moe.name" || name == "moe.kind" || name == "moe.role")
    return isa<StringAttr>(attr.getValue())
               ? success()
               : op->emitOpError()
                     << name << " wants a string, got " << attr.getValue();
  if (name == "moe.inout")
    return isa<UnitAttr>(attr.getValue())
               ? success()
               : op->emitOpError()
                     << name << " is a unit attribute, got " << attr.getValue();
  return op->emitOpError()
         << "unknown attribute " << name
         << " on a function argument or result; known are "
            "moe.dims, moe.name, moe.kind, moe.role, moe.inout";
}

LogicalResult MoeDialect::verifyRegionArgAttribute(Operation *op, unsigned,
                                                   unsigned index,
                                                   NamedAttribute attr) {
  auto function = dyn_cast<FunctionOpInterface>(op);
  if (!function || index >= function.getNumArguments())
    return success();
  return verifyBoundaryAttr(op, attr, function.getArgumentTypes()[index]);
}

LogicalResult MoeDialect::verifyRegionResultAttribute(Operation *op, unsigned,
                                                      unsigned index,
                                                      NamedAttribute attr) {
  auto function = dyn_cast<FunctionOpInterface>(op);
  if (!function || index >= function.getNumResults())
    return success();
  return verifyBoundaryAttr(op, attr, function.getResultTypes()[index]);
}

LogicalResult MoeDialect::verifyOperationAttribute(Operation *op,
                                                   NamedAttribute attr) {
  if (attr.getName() == "moe.config" && !isa<ConfigAttr>(attr.getValue()))
    return op->emitOpError() << "moe.config wants a #moe.config attribute, got "
                             << attr.getValue();
  return success();
}

//===----------------------------------------------------------------------===//
// AssignmentType: `<` (T | ?) x K `,` E `>`
//===----------------------------------------------------------------------===//

Type AssignmentType::parse(AsmParser &parser) {
  SmallVector<int64_t, 2> shape;
  int64_t experts;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() ||
      parser.parseDimensionList(shape, /*allowDynamic=*/true,
                                /*withTrailingX=*/false))
    return {};
  if (shape.size() != 2 || ShapedType::isDynamic(shape[1])) {
    parser.emitError(loc, "an assignment is <TxK, E>, as in <?x2, 8>: T may be "
                          "dynamic, K not");
    return {};
  }
  if (parser.parseComma() || parser.parseInteger(experts) ||
      parser.parseGreater())
    return {};
  return parser.getChecked<AssignmentType>(loc, parser.getContext(), shape[0],
                                           shape[1], experts);
}

void AssignmentType::print(AsmPrinter &printer) const {
  printer << '<';
  printer.printDimensionList({getTokens(), getK()});
  printer << ", " << getExperts() << '>';
}

LogicalResult
AssignmentType::verify(function_ref<InFlightDiagnostic()> emitError,
                       int64_t tokens, int64_t k, int64_t experts) {
  if (k < 1 || experts < 1)
    return emitError() << "an assignment has at least one expert and one "
                          "choice a token, got K = "
                       << k << " and E = " << experts;
  if (!ShapedType::isDynamic(tokens) &&
      (tokens < 0 || tokens > INT32_MAX / k || tokens * k >= INT32_MAX))
    return emitError() << "T * K must be below 2^31, got T = " << tokens
                       << " and K = " << k;
  return success();
}

int64_t AssignmentType::getSlots() const {
  return hasStaticTokens() ? getTokens() * getK() : ShapedType::kDynamic;
}

bool AssignmentType::hasStaticTokens() const {
  return !ShapedType::isDynamic(getTokens());
}

//===----------------------------------------------------------------------===//
// PortAttr: `<` kind [order] [layout count] `>`
//===----------------------------------------------------------------------===//

Attribute PortAttr::parse(AsmParser &parser, Type) {
  std::string text;
  PortKind kind;
  RowOrder order = RowOrder::Grouped;
  ColumnLayout layout = ColumnLayout::Single;
  int64_t count = 1;
  StringRef word;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() || parser.parseKeyword(&word))
    return {};
  if (auto parsed = symbolizePortKind(word)) {
    kind = *parsed;
  } else {
    parser.emitError(loc, "unknown port kind '" + word + "'");
    return {};
  }
  while (succeeded(parser.parseOptionalKeyword(
      &word, {"token", "slot", "grouped", "concat", "interleave"}))) {
    if (auto parsed = symbolizeRowOrder(word)) {
      order = *parsed;
      continue;
    }
    layout = *symbolizeColumnLayout(word);
    if (parser.parseInteger(count))
      return {};
  }
  if (parser.parseGreater())
    return {};
  return parser.getChecked<PortAttr>(loc, parser.getContext(), kind, order,
                                     layout, count);
}

void PortAttr::print(AsmPrinter &printer) const {
  printer << '<' << stringifyPortKind(getKind()) << ' '
          << stringifyRowOrder(getOrder());
  if (getLayout() != ColumnLayout::Single)
    printer << ' ' << stringifyColumnLayout(getLayout()) << ' ' << getCount();
  printer << '>';
}

LogicalResult PortAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                               PortKind kind, RowOrder, ColumnLayout layout,
                               int64_t count) {
  if (layout == ColumnLayout::Single && count != 1)
    return emitError() << "a port with single columns has count 1, got "
                       << count;
  if (layout != ColumnLayout::Single && count < 2)
    return emitError() << stringifyColumnLayout(layout)
                       << " wants at least 2 values a column, got " << count;
  if (layout != ColumnLayout::Single && kind != PortKind::Rows &&
      kind != PortKind::Expert)
    return emitError() << "a " << stringifyPortKind(kind)
                       << " port has no columns to "
                       << stringifyColumnLayout(layout);
  return success();
}

PortAttr PortAttr::withOrder(RowOrder order) const {
  return PortAttr::get(getContext(), getKind(), order, getLayout(), getCount());
}

//===----------------------------------------------------------------------===//
// VariantAttr: `<` structure [numbers] [reason] [`from` N value] `>`
//===----------------------------------------------------------------------===//

VariantAttr VariantAttr::parseBody(AsmParser &parser) {
  SMLoc loc = parser.getCurrentLocation();
  StringRef word;
  if (parser.parseKeyword(&word))
    return {};
  std::optional<Structure> structure = symbolizeStructure(word);
  if (!structure) {
    parser.emitError(
        loc, "unknown structure '" + word +
                 "' of a kernel; known are simt, cooperative and resident");
    return {};
  }
  SmallVector<int64_t, 2> tile;
  int64_t stages = 0, buffers = 0, parts = 0, atLeast = 0;
  HostValue guard = HostValue::None;
  std::string text;
  while (succeeded(parser.parseOptionalKeyword(
      &word, {"tile", "stages", "buffers", "parts", "from"}))) {
    SMLoc at = parser.getCurrentLocation();
    if (word == "tile") {
      if (parser.parseDimensionList(tile, /*allowDynamic=*/false,
                                    /*withTrailingX=*/false))
        return {};
      if (tile.size() != 2) {
        parser.emitError(at, "a tile is rows x columns, as in 128x256");
        return {};
      }
      continue;
    }
    int64_t &number = word == "stages"    ? stages
                      : word == "buffers" ? buffers
                      : word == "parts"   ? parts
                                          : atLeast;
    bool guards = word == "from";
    if (parser.parseInteger(number))
      return {};
    if (number < 1) {
      parser.emitError(at, "a variant's numbers are at least 1, got " +
                               Twine(number));
      return {};
    }
    if (guards) {
      at = parser.getCurrentLocation();
      if (parser.parseKeyword(&word))
        return {};
      guard = symbolizeHostValue(word).value_or(HostValue::None);
      if (guard == HostValue::None) {
        parser.emitError(at, "the host knows no '" + word +
                                 "'; a guard is on rows or processors");
        return {};
      }
      break;
    }
  }
  StringAttr reason;
  if (succeeded(parser.parseOptionalString(&text)))
    reason = StringAttr::get(parser.getContext(), text);
  tile.resize(2);
  return parser.getChecked<VariantAttr>(loc, parser.getContext(), *structure,
                                        tile[0], tile[1], stages, buffers,
                                        parts, reason, guard, atLeast);
}

void VariantAttr::printBody(AsmPrinter &printer) const {
  printer << stringifyStructure(getStructure());
  if (hasTile())
    printer << " tile " << getTileRows() << 'x' << getTileColumns();
  if (getStages())
    printer << " stages " << getStages();
  if (getBuffers())
    printer << " buffers " << getBuffers();
  if (getParts())
    printer << " parts " << getParts();
  if (hasGuard())
    printer << " from " << getAtLeast() << ' '
            << stringifyHostValue(getGuard());
  if (getReason())
    printer << ' ' << getReason();
}

Attribute VariantAttr::parse(AsmParser &parser, Type) {
  if (parser.parseLess())
    return {};
  VariantAttr variant = parseBody(parser);
  return variant && succeeded(parser.parseGreater()) ? variant : VariantAttr();
}

void VariantAttr::print(AsmPrinter &printer) const {
  printer << '<';
  printBody(printer);
  printer << '>';
}

LogicalResult VariantAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                  Structure structure, int64_t tileRows,
                                  int64_t tileColumns, int64_t stages,
                                  int64_t buffers, int64_t parts,
                                  StringAttr reason, HostValue guard,
                                  int64_t atLeast) {
  bool simt = structure == Structure::Simt;
  for (auto [name, number] :
       {std::pair<StringRef, int64_t>{"tile", std::max(tileRows, tileColumns)},
        {"stages", stages},
        {"buffers", buffers},
        {"parts", parts}})
    if (simt && number)
      return emitError() << "a simt kernel has no " << name << ", got "
                         << number;
  if (!simt && reason)
    return emitError() << "a reason is for simt, got " << reason << " for "
                       << stringifyStructure(structure);
  if (std::min({tileRows, tileColumns, stages, buffers, parts, atLeast}) < 0 ||
      (tileRows == 0) != (tileColumns == 0) ||
      (guard == HostValue::None) != (atLeast == 0))
    return emitError() << "a variant's numbers are at least 1, got tile "
                       << tileRows << "x" << tileColumns << " stages " << stages
                       << " buffers " << buffers << " parts " << parts
                       << " from " << atLeast;
  return success();
}

VariantAttr VariantAttr::withoutGuard() const {
  return get(getContext(), getStructure(), getTileRows(), getTileColumns(),
             getStages(), getBuffers(), getParts(), getReason(),
             HostValue::None, 0);
}

std::string VariantAttr::getReductionOrder() const {
  switch (getStructure()) {
  case Structure::Simt:
    return "terms one by one, ascending";
  case Structure::Cooperative:
  case Structure::Resident:
    if (getParts() > 1)
      return ("steps of 64 terms, ascending, of experts with many rows in up "
              "to " +
              Twine(getParts()) + " parts")
          .str();
    return "steps of 64 terms, ascending";
  }
  llvm_unreachable("unknown structure");
}

//===----------------------------------------------------------------------===//
// ConfigAttr: `<` variant (`,` variant)* `>`
//===----------------------------------------------------------------------===//

Attribute ConfigAttr::parse(AsmParser &parser, Type) {
  SmallVector<VariantAttr> variants;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseCommaSeparatedList(
          AsmParser::Delimiter::LessGreater, [&]() -> ParseResult {
            variants.push_back(VariantAttr::parseBody(parser));
            return success(variants.back() != nullptr);
          }))
    return {};
  return parser.getChecked<ConfigAttr>(loc, parser.getContext(),
                                       ArrayRef(variants));
}

void ConfigAttr::print(AsmPrinter &printer) const {
  printer << '<';
  llvm::interleaveComma(getVariants(), printer, [&](VariantAttr variant) {
    variant.printBody(printer);
  });
  printer << '>';
}

LogicalResult ConfigAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                                 ArrayRef<VariantAttr> variants) {
  if (variants.empty())
    return emitError() << "a config has at least one variant";
  for (VariantAttr variant : variants.drop_back())
    if (!variant.hasGuard())
      return emitError() << "a variant without guard runs always, so that no "
                            "other may follow it";
  if (variants.back().hasGuard())
    return emitError() << "the last variant runs where no other does, so it "
                          "has no guard; got one on "
                       << stringifyHostValue(variants.back().getGuard());
  return success();
}

//===----------------------------------------------------------------------===//
// Shapes and compute types
//===----------------------------------------------------------------------===//

int64_t mlir::moe::getNumRows(RowOrder order, AssignmentType assignment) {
  return order == RowOrder::Token ? assignment.getTokens()
                                  : assignment.getSlots();
}

FloatType mlir::moe::getComputeType(Type elementType) {
  if (elementType.isF64())
    return cast<FloatType>(elementType);
  return Float32Type::get(elementType.getContext());
}

FailureOr<FloatType> mlir::moe::getComputeType(TypeRange types,
                                               MLIRContext *context) {
  bool hasF64 = false, hasNarrow = false;
  for (Type type : types) {
    auto element = dyn_cast<FloatType>(getElementTypeOrSelf(type));
    if (!element)
      continue;
    (element.isF64() ? hasF64 : hasNarrow) = true;
  }
  if (hasF64 && hasNarrow)
    return failure();
  if (hasF64)
    return FloatType(Float64Type::get(context));
  return FloatType(Float32Type::get(context));
}
