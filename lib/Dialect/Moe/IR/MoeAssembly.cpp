// SPDX-License-Identifier: Apache-2.0
// How operands with ports are spelled, and the op classes that TableGen makes.
#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/OpImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

using Operands = SmallVectorImpl<OpAsmParser::UnresolvedOperand>;

/// kind [order] [layout count]; the order is read where `order` is not given.
static ParseResult parsePort(OpAsmParser &parser, PortAttr &port,
                             std::optional<RowOrder> order) {
  StringRef word;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseKeyword(&word))
    return failure();
  std::optional<PortKind> kind = symbolizePortKind(word);
  if (!kind)
    return parser.emitError(loc, "expected a port (rows, scalar, expert, sum "
                                 "or partials), got '")
           << word << "'";
  if (!order) {
    order = RowOrder::Grouped;
    if (*kind != PortKind::Expert) {
      loc = parser.getCurrentLocation();
      if (parser.parseKeyword(&word))
        return failure();
      order = symbolizeRowOrder(word);
      if (!order)
        return parser.emitError(
                   loc, "expected a row order (token, slot or grouped), got '")
               << word << "'";
    }
  } else if (*kind == PortKind::Expert) {
    order = RowOrder::Grouped;
  }
  ColumnLayout layout = ColumnLayout::Single;
  int64_t count = 1;
  loc = parser.getCurrentLocation();
  if (succeeded(parser.parseOptionalKeyword(&word, {"concat", "interleave"}))) {
    layout = *symbolizeColumnLayout(word);
    if (parser.parseInteger(count))
      return failure();
  }
  port =
      PortAttr::getChecked([&] { return parser.emitError(loc); },
                           parser.getContext(), *kind, *order, layout, count);
  return success(bool(port));
}

static void printPort(OpAsmPrinter &printer, PortAttr port, bool withOrder) {
  printer << ' ' << stringifyPortKind(port.getKind());
  if (withOrder && port.getKind() != PortKind::Expert)
    printer << ' ' << stringifyRowOrder(port.getOrder());
  if (port.getLayout() != ColumnLayout::Single)
    printer << ' ' << stringifyColumnLayout(port.getLayout()) << ' '
            << port.getCount();
}

//===----------------------------------------------------------------------===//
// ins(%x : type port, ...), and outs with operands or with types alone
//===----------------------------------------------------------------------===//

/// Without `operands`, types and ports alone.
static ParseResult parsePorts(OpAsmParser &parser, Operands *operands,
                              SmallVectorImpl<Type> &types, ArrayAttr &ports,
                              std::optional<RowOrder> order) {
  SmallVector<Attribute> parsed;
  auto parseOne = [&]() -> ParseResult {
    PortAttr port;
    if (operands &&
        (parser.parseOperand(operands->emplace_back()) || parser.parseColon()))
      return failure();
    if (parser.parseType(types.emplace_back()) ||
        parsePort(parser, port, order))
      return failure();
    parsed.push_back(port);
    return success();
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, parseOne))
    return failure();
  ports = ArrayAttr::get(parser.getContext(), parsed);
  return success();
}

static void printIns(OpAsmPrinter &printer, OperandRange operands,
                     TypeRange types, ArrayAttr ports, bool withOrder) {
  printer << '(';
  llvm::interleaveComma(
      llvm::zip_equal(operands, types, ports), printer, [&](auto it) {
        printer << std::get<0>(it) << " : " << std::get<1>(it);
        printPort(printer, cast<PortAttr>(std::get<2>(it)), withOrder);
      });
  printer << ')';
}

static ParseResult parsePortOperands(OpAsmParser &parser, Operands &operands,
                                     SmallVectorImpl<Type> &types,
                                     ArrayAttr &ports, RowOrderAttr order) {
  return parsePorts(parser, &operands, types, ports, order.getValue());
}
static void printPortOperands(OpAsmPrinter &printer, Operation *,
                              OperandRange operands, TypeRange types,
                              ArrayAttr ports, RowOrderAttr) {
  printIns(printer, operands, types, ports, /*withOrder=*/false);
}
static ParseResult parseKernelIns(OpAsmParser &parser, Operands &operands,
                                  SmallVectorImpl<Type> &types,
                                  ArrayAttr &ports) {
  return parsePorts(parser, &operands, types, ports, std::nullopt);
}
static void printKernelIns(OpAsmPrinter &printer, Operation *,
                           OperandRange operands, TypeRange types,
                           ArrayAttr ports) {
  printIns(printer, operands, types, ports, /*withOrder=*/true);
}

static ParseResult parsePortResults(OpAsmParser &parser,
                                    SmallVectorImpl<Type> &types,
                                    ArrayAttr &ports, RowOrderAttr order) {
  return parsePorts(parser, nullptr, types, ports, order.getValue());
}
static void printPortResults(OpAsmPrinter &printer, Operation *,
                             TypeRange types, ArrayAttr ports, RowOrderAttr) {
  printer << '(';
  llvm::interleaveComma(llvm::zip_equal(types, ports), printer, [&](auto it) {
    printer << std::get<0>(it);
    printPort(printer, cast<PortAttr>(std::get<1>(it)), false);
  });
  printer << ')';
}

static void tensorsOf(ArrayRef<Type> types, SmallVectorImpl<Type> &tensors) {
  llvm::copy_if(types, std::back_inserter(tensors),
                [](Type type) { return isa<TensorType>(type); });
}

static ParseResult parseKernelOuts(OpAsmParser &parser, Operands &operands,
                                   SmallVectorImpl<Type> &types,
                                   SmallVectorImpl<Type> &results,
                                   ArrayAttr &ports) {
  if (parsePorts(parser, &operands, types, ports, std::nullopt))
    return failure();
  tensorsOf(types, results);
  return success();
}
static void printKernelOuts(OpAsmPrinter &printer, Operation *,
                            OperandRange operands, TypeRange types, TypeRange,
                            ArrayAttr ports) {
  printIns(printer, operands, types, ports, /*withOrder=*/true);
}

static ParseResult parseDpsOuts(OpAsmParser &parser, Operands &operands,
                                SmallVectorImpl<Type> &types,
                                SmallVectorImpl<Type> &results) {
  if (parser.parseLParen() || parser.parseOperandList(operands) ||
      parser.parseColonTypeList(types) || parser.parseRParen())
    return failure();
  tensorsOf(types, results);
  return success();
}
static void printDpsOuts(OpAsmPrinter &printer, Operation *,
                         OperandRange operands, TypeRange types, TypeRange) {
  printer << '(' << operands << " : " << types << ')';
}

//===----------------------------------------------------------------------===//
// pairs(%x from order, %w layout : types, ...)
//===----------------------------------------------------------------------===//

static ParseResult parsePairs(OpAsmParser &parser, Operands &lhs,
                              SmallVectorImpl<Type> &lhsTypes, Operands &rhs,
                              SmallVectorImpl<Type> &rhsTypes,
                              ArrayAttr &orders, ArrayAttr &layouts) {
  SmallVector<Attribute> parsedOrders, parsedLayouts;
  MLIRContext *context = parser.getContext();
  auto parseOne = [&]() -> ParseResult {
    StringRef word;
    SMLoc loc;
    if (parser.parseOperand(lhs.emplace_back()) || parser.parseKeyword("from"))
      return failure();
    loc = parser.getCurrentLocation();
    if (parser.parseKeyword(&word))
      return failure();
    auto order = symbolizeRowOrder(word);
    if (!order)
      return parser.emitError(loc, "expected token, slot or grouped, got '")
             << word << "'";
    if (parser.parseComma() || parser.parseOperand(rhs.emplace_back()))
      return failure();
    loc = parser.getCurrentLocation();
    if (parser.parseKeyword(&word))
      return failure();
    auto layout = symbolizeWeightLayout(word);
    if (!layout)
      return parser.emitError(loc, "expected out_in or in_out, got '")
             << word << "'";
    if (parser.parseColonType(lhsTypes.emplace_back()) || parser.parseComma() ||
        parser.parseType(rhsTypes.emplace_back()))
      return failure();
    parsedOrders.push_back(RowOrderAttr::get(context, *order));
    parsedLayouts.push_back(WeightLayoutAttr::get(context, *layout));
    return success();
  };
  if (parser.parseKeyword("pairs") ||
      parser.parseCommaSeparatedList(AsmParser::Delimiter::Paren, parseOne))
    return failure();
  orders = ArrayAttr::get(context, parsedOrders);
  layouts = ArrayAttr::get(context, parsedLayouts);
  return success();
}

static void printPairs(OpAsmPrinter &printer, Operation *, OperandRange lhs,
                       TypeRange lhsTypes, OperandRange rhs, TypeRange rhsTypes,
                       ArrayAttr orders, ArrayAttr layouts) {
  printer << "pairs(";
  for (unsigned i = 0, e = lhs.size(); i < e; ++i) {
    if (i)
      printer << ", ";
    printer << lhs[i] << " from "
            << stringifyRowOrder(cast<RowOrderAttr>(orders[i]).getValue())
            << ", " << rhs[i] << ' '
            << stringifyWeightLayout(
                   cast<WeightLayoutAttr>(layouts[i]).getValue())
            << " : " << lhsTypes[i] << ", " << rhsTypes[i];
  }
  printer << ')';
}

#define GET_OP_CLASSES
#include "moe/Dialect/Moe/IR/MoeOps.cpp.inc"
