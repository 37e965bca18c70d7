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
