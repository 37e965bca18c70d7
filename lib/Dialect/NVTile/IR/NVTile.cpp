// SPDX-License-Identifier: Apache-2.0
// The `nvtile` dialect, its types, and what its ops demand.
#include "moe/Dialect/NVTile/IR/NVTile.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::nvtile;

#include "moe/Dialect/NVTile/IR/NVTileDialect.cpp.inc"
#define GET_TYPEDEF_CLASSES
#include "moe/Dialect/NVTile/IR/NVTileTypes.cpp.inc"
#define GET_OP_CLASSES
#include "moe/Dialect/NVTile/IR/NVTileOps.cpp.inc"

void NVTileDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "moe/Dialect/NVTile/IR/NVTileTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "moe/Dialect/NVTile/IR/NVTileOps.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

int64_t RingType::getStageBytes() const {
  return getTileOffset(getRows().size());
}

int64_t RingType::getTileOffset(unsigned i) const {
  int64_t rows = 0;
  for (int64_t tile : getRows().take_front(i))
    rows += tile;
  return rows * 128;
}

LogicalResult RingType::verify(function_ref<InFlightDiagnostic()> emitError,
                               int64_t stages, ArrayRef<int64_t> rows) {
  if (stages < 2 || stages > 16)
    return emitError() << "a ring has 2 to 16 stages, got " << stages;
  if (rows.empty())
    return emitError() << "a stage has at least one tile";
  for (int64_t tile : rows)
    if (tile <= 0 || tile % 8)
      return emitError() << "a tile has a multiple of 8 rows (the swizzle's "
                            "period), got "
                         << tile;
  return success();
}

LogicalResult StagingType::verify(function_ref<InFlightDiagnostic()> emitError,
                                  int64_t buffers) {
  if (buffers < 1 || buffers > 8)
    return emitError() << "staging has 1 to 8 buffers, got " << buffers;
  return success();
}

Type FragmentType::parse(AsmParser &parser) {
  SmallVector<int64_t, 2> shape;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() ||
      parser.parseDimensionList(shape, /*allowDynamic=*/false,
                                /*withTrailingX=*/false))
    return {};
  Type element = Float32Type::get(parser.getContext());
  if (succeeded(parser.parseOptionalComma()) && parser.parseType(element))
    return {};
  if (parser.parseGreater())
    return {};
  if (shape.size() != 2) {
    parser.emitError(loc, "a fragment is <rows x columns>, as in <64x256>");
    return {};
  }
  return parser.getChecked<FragmentType>(loc, parser.getContext(), shape[0],
                                         shape[1], element);
}

void FragmentType::print(AsmPrinter &printer) const {
  printer << "<" << getRows() << "x" << getColumns();
  if (!getElementType().isF32())
    printer << ", " << getElementType();
  printer << ">";
}

LogicalResult FragmentType::verify(function_ref<InFlightDiagnostic()> emitError,
                                   int64_t rows, int64_t columns,
                                   Type element) {
  bool whole = rows == 64 && columns >= 8 && columns <= 256 && columns % 8 == 0;
  bool perRow = rows == 64 && columns == 1;
  bool perColumn =
      rows == 1 && columns >= 8 && columns <= 256 && columns % 8 == 0;
  if (!whole && !perRow && !perColumn)
    return emitError()
           << "a fragment is 64xN, 64x1 or 1xN with N a multiple of "
              "8 up to 256, got "
           << rows << "x" << columns;
  if (!element.isF32() && !(whole && (element.isBF16() || element.isF16())))
    return emitError() << "a fragment is f32 or, where 64xN, bf16 or f16, got "
                       << element;
  return success();
}

int64_t FragmentType::getRegisters() const {
  if (getColumns() == 1)
    return 2;
  if (getRows() == 1 || !getElementType().isF32())
    return getColumns() / 4;
  return getColumns() / 2;
}

//===----------------------------------------------------------------------===//
// Ops
//===----------------------------------------------------------------------===//

LogicalResult TensorMapOp::verify() {
  size_t rank = getDims().size();
  if (rank < 2 || rank > 5 || getStrides().size() + 1 != rank ||
      getBox().size() != rank)
    return emitOpError()
           << "wants 2 to 5 dims, one stride less and a box of as "
              "many sizes, got "
           << rank << ", " << getStrides().size() << " and " << getBox().size()
           << " (C1)";
  for (int64_t size : getBox())
    if (size < 1 || size > 256)
      return emitOpError() << "box size " << size << " is not in 1..256 (C1)";
  Type element = cast<MemRefType>(getSource().getType()).getElementType();
  if (getBox()[0] * element.getIntOrFloatBitWidth() != 128 * 8)
    return emitOpError() << "box[0] of " << getBox()[0] << " " << element
                         << " is not 128 bytes (C2)";
  if (getType().getElementType() != element)
    return emitOpError() << "gives " << getType() << " of " << element;
  return success();
}

/// Whoever uses the map uses the memory.
Value TensorMapOp::getViewSource() { return getSource(); }

LogicalResult SpecializeOp::verify() {
  if (getProduce().getNumArguments() != 0 ||
      getConsume().getNumArguments() != 1 ||
      !getConsume().getArgument(0).getType().isInteger(32))
    return emitOpError() << "has no producing argument and one consuming i32, "
                            "the warpgroup";
  for (int32_t registers : {getProduceRegisters(), getConsumeRegisters()})
    if (registers < 24 || registers > 256 || registers % 8)
      return emitOpError() << "registers are a multiple of 8 in 24..256, got "
                           << registers;
  if (getProduceRegisters() + 2 * getConsumeRegisters() > 512)
    return emitOpError() << "registers of the three warpgroups, "
                         << getProduceRegisters() << " + 2 * "
                         << getConsumeRegisters() << ", pass 512";
  return success();
}

/// Tile `tile` exists in the ring and has `row`.
static LogicalResult verifyTile(Operation *op, RingType ring, int32_t tile,
                                int64_t row = 0) {
  if (tile < 0 || tile >= static_cast<int64_t>(ring.getRows().size()))
    return op->emitOpError() << "tile " << tile << " is not in " << ring;
  if (row < 0 || row >= ring.getRows()[tile] || row % 8)
    return op->emitOpError() << "row " << row << " is no multiple of 8 in tile "
                             << tile << " of " << ring;
  return success();
}

LogicalResult LoadOp::verify() {
  if (getCoordinates().size() < 2 || getCoordinates().size() > 5)
    return emitOpError() << "wants 2 to 5 coordinates, got "
                         << getCoordinates().size();
  return verifyTile(*this, getRing().getType(), getTile(), getRow());
}

LogicalResult GatherOp::verify() {
  if (failed(verifyTile(*this, getRing().getType(), getTile())))
    return failure();
  int64_t rows = getRing().getType().getRows()[getTile()];
  int64_t ids = 16 * cast<VectorType>(getIds().getType()).getDimSize(0);
  if (rows % ids)
    return emitOpError() << "tile " << getTile() << " has " << rows
                         << " rows, no multiple of the " << ids << " rows of "
                         << getIds().getType();
  auto source = cast<MemRefType>(getSource().getType());
  if (source.isDynamicDim(1) || source.getDimSize(1) % 8)
    return emitOpError() << "gathers 16-byte pieces: the columns of " << source
                         << " are no static multiple of 8";
  return success();
}

LogicalResult MmaOp::verify() {
  RingType ring = getRing().getType();
  if (!getRhsRing() != !getRhsPosition())
    return emitOpError() << "has a ring for its right tile without a position, "
                            "or the reverse";
  RingType rhsRing = getRhsRing() ? getRhsRing().getType() : ring;
  if (failed(verifyTile(*this, ring, getLhs())) ||
      failed(verifyTile(*this, rhsRing, getRhs())))
    return failure();
  if (!getElementType().isBF16() && !getElementType().isF16())
    return emitOpError() << "multiplies bf16 or f16, got " << getElementType();
  FragmentType type = getType();
  if (type.getRows() != 64 || type.getColumns() < 8 ||
      rhsRing.getRows()[getRhs()] != type.getColumns())
    return emitOpError() << "rhs tile of " << rhsRing.getRows()[getRhs()]
                         << " rows does not give " << type;
  int64_t rows = ring.getRows()[getLhs()];
  if (getWarpgroup() && rows != 128)
    return emitOpError() << "lhs tile has " << rows
                         << " rows, two warpgroups need 128";
  if (!getWarpgroup() && rows != 64)
    return emitOpError() << "lhs tile has " << rows
                         << " rows, one warpgroup needs 64; two say which one "
                            "with `warpgroup`";
  return success();
}

LogicalResult ColumnsOp::verify() {
  FragmentType from = getSource().getType(), to = getType();
  if (from.getRows() != to.getRows() || to.getColumns() < 8 || getFirst() % 8 ||
      getFirst() + to.getColumns() > from.getColumns() || getFirst() < 0)
    return emitOpError() << "no columns " << getFirst() << ".. of " << from
                         << " are a " << to;
  return success();
}

LogicalResult MapOp::verify() {
  Block &block = getBody().front();
  if (block.getNumArguments() != getFragments().size())
    return emitOpError() << "has " << getFragments().size()
                         << " fragments and a body of "
                         << block.getNumArguments() << " arguments";
  for (BlockArgument argument : block.getArguments())
    if (!argument.getType().isF32())
      return emitOpError() << "the body works on f32, got "
                           << argument.getType();
  auto yield = cast<YieldOp>(block.getTerminator());
  if (yield.getValues().size() != getNumResults())
    return emitOpError() << "yields " << yield.getValues().size()
                         << " values for " << getNumResults() << " results";
  FragmentType result;
  for (Type type : getResultTypes()) {
    auto next = cast<FragmentType>(type);
    if (result && (result.getRows() != next.getRows() ||
                   result.getColumns() != next.getColumns()))
      return emitOpError() << "results differ in shape";
    result = next;
  }
  for (Type type : getOperandTypes()) {
    auto operand = cast<FragmentType>(type);
    bool rows = result && operand.getRows() == result.getRows();
    bool columns = result && operand.getColumns() == result.getColumns();
    bool fits = (rows && columns) || (rows && operand.getColumns() == 1) ||
                (columns && operand.getRows() == 1);
    if (!fits)
      return emitOpError() << "operand " << operand
                           << " does not broadcast to the results";
  }
  return success();
}

LogicalResult RoundOp::verify() {
  FragmentType from = getSource().getType(), to = getType();
  if (!from.getElementType().isF32() || to.getElementType().isF32() ||
      from.getRows() != to.getRows() || from.getColumns() != to.getColumns())
    return emitOpError() << "does not make " << to << " of " << from;
  return success();
}

LogicalResult JoinOp::verify() {
  FragmentType side = getLeft().getType(), both = getType();
  if (side.getRows() != 64 || both.getRows() != 64 ||
      2 * side.getColumns() != both.getColumns() ||
      side.getElementType() != both.getElementType())
    return emitOpError() << "does not make " << both << " of two " << side;
  return success();
}

/// Fragments of a row of 64 columns of 16 bits: 16 or 32 columns from `column`,
/// or as many even ones and odd ones.
static LogicalResult verifyColumns(Operation *op, TypeRange types,
                                   int64_t column) {
  if (types.empty() || types.size() > 2)
    return op->emitOpError()
           << "takes one fragment, or two that alternate, got " << types.size();
  for (Type each : types) {
    auto type = cast<FragmentType>(each);
    if (type != types.front() || type.getRows() != 64 ||
        (type.getColumns() != 16 && type.getColumns() != 32) ||
        type.getElementType().isF32())
      return op->emitOpError()
             << "takes 64x16 or 64x32 of bf16 or f16, got " << type;
  }
  int64_t step = cast<FragmentType>(types.front()).getColumns();
  int64_t columns = kDepth / static_cast<int64_t>(types.size());
  if (column < 0 || column % step || column >= columns)
    return op->emitOpError() << "column is a multiple of " << step << " below "
                             << columns << ", got " << column;
  return success();
}

LogicalResult ReadOp::verify() {
  if (failed(verifyColumns(*this, getFragments().getTypes(), getColumn())))
    return failure();
  return verifyTile(*this, getRing().getType(), getTile(), getRow());
}

LogicalResult WriteOp::verify() {
  if (failed(verifyColumns(*this, getFragments().getTypes(), getColumn())))
    return failure();
  return verifyTile(*this, getRing().getType(), getTile(), getRow());
}

LogicalResult LoadFragmentOp::verify() {
  size_t count = getFragments().size();
  auto type =
      count ? cast<FragmentType>(getFragments()[0].getType()) : FragmentType();
  if (count == 1)
    return success();
  if (count != 2 || getFragments()[1].getType() != type ||
      type.getColumns() == 1)
    return emitOpError()
           << "gives one fragment, or two of a type whose columns "
              "alternate, got "
           << getFragments().getTypes();
  return success();
}

LogicalResult StoreOp::verify() {
  return verifyTile(*this, getRing().getType(), getTile(), getFrom());
}

LogicalResult StageStoreOp::verify() {
  Type element = cast<MemRefType>(getTarget().getType()).getElementType();
  int64_t count = getFragments().size();
  if (count != 1 && count != 2)
    return emitOpError() << "takes one fragment, or two that alternate, got "
                         << count;
  auto expected = FragmentType::get(getContext(), 64, kDepth / count, element);
  for (Value fragment : getFragments())
    if (fragment.getType() != expected)
      return emitOpError() << "writes " << count << " of " << expected
                           << ", got " << fragment.getType();
  if (static_cast<int64_t>(getBuffer()) >= getStaging().getType().getBuffers())
    return emitOpError() << "buffer " << getBuffer() << " is not in "
                         << getStaging().getType();
  return success();
}
