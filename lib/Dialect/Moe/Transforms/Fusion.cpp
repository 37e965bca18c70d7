// SPDX-License-Identifier: Apache-2.0
#include "Fusion.h"

#include "mlir/Analysis/TopologicalSortUtils.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::moe;

//===----------------------------------------------------------------------===//
// A kernel taken apart
//===----------------------------------------------------------------------===//

bool mlir::moe::isRowKernel(Operation *op) {
  return isa_and_present<GroupedMatmulOp, MapRowsOp, CombineRowsOp,
                         ReduceExpertsOp>(op) &&
         cast<DestinationStyleOpInterface>(op).hasPureTensorSemantics();
}

Value mlir::moe::getAssignment(Operation *op) {
  return llvm::TypeSwitch<Operation *, Value>(op)
      .Case<GroupedMatmulOp, GroupedOuterOp, MapRowsOp, CombineRowsOp,
            ReduceExpertsOp, FoldPartialsOp>(
          [](auto op) { return op.getAssignment(); })
      .Default(Value());
}

RowKernel::RowKernel(Operation *op) : op(op) {
  compute = *getComputeType(op->getOperandTypes(), op->getContext());
  auto ports = [&](auto op) {
    for (auto [value, port] : llvm::zip_equal(op.getIns(), op.getInPorts()))
      ins.push_back({value, cast<PortAttr>(port)});
    for (auto [init, port, result] :
         llvm::zip_equal(op.getOuts(), op.getOutPorts(), op.getResults()))
      outs.push_back({init, cast<PortAttr>(port), result});
  };
  llvm::TypeSwitch<Operation *>(op)
      .Case([&](GroupedMatmulOp op) {
        ports(op);
        lhs.assign(op.getLhs().begin(), op.getLhs().end());
        rhs.assign(op.getRhs().begin(), op.getRhs().end());
        llvm::append_range(lhsOrders, op.getLhsOrders());
        llvm::append_range(rhsLayouts, op.getRhsLayouts());
        columns = op.getColumns();
      })
      .Case([&](CombineRowsOp op) {
        ports(op);
        llvm::append_range(addends, op.getAddends());
        llvm::append_range(folds, op.getFolds());
        unsigned sums = outs.size() - folds.size();
        folded.assign(outs.begin() + sums, outs.end());
        outs.truncate(sums);
      })
      .Case<MapRowsOp, ReduceExpertsOp>(ports);
  op->getRegion(0).cloneInto(&body, *std::make_unique<IRMapping>());
}

std::optional<int64_t> RowKernel::width() {
  auto columnsOf = [](Value value, PortAttr port) {
    return cast<ShapedType>(value.getType()).getDimSize(1) / port.getCount();
  };
  if (columns) {
    auto outIn =
        cast<WeightLayoutAttr>(rhsLayouts[0]).getValue() == WeightLayout::OutIn;
    return cast<ShapedType>(rhs[0].getType()).getDimSize(outIn ? 1 : 2) /
           columns.getCount();
  }
  for (const In &in : ins)
    if (in.port.hasColumns())
      return columnsOf(in.value, in.port);
  for (const Out &out : outs)
    if (out.port.hasColumns())
      return columnsOf(out.init, out.port);
  return std::nullopt;
}

SmallVector<Value> RowKernel::accumulators() {
  return llvm::to_vector_of<Value>(
      block().getArguments().take_front(columns ? columns.getCount() : 0));
}

SmallVector<Value> RowKernel::arguments(unsigned i) {
  unsigned first = columns ? columns.getCount() : 0;
  for (const In &in : ArrayRef(ins).take_front(i))
    first += in.port.numValues();
  return llvm::to_vector_of<Value>(
      block().getArguments().slice(first, ins[i].port.numValues()));
}

static unsigned firstYield(ArrayRef<RowKernel::Out> outs, unsigned i) {
  unsigned first = 0;
  for (const RowKernel::Out &out : outs.take_front(i))
    first += out.port.numValues();
  return first;
}

SmallVector<Value> RowKernel::yielded(unsigned i) {
  return llvm::to_vector_of<Value>(yield().getOperands().slice(
      firstYield(outs, i), outs[i].port.numValues()));
}

SmallVector<Value> RowKernel::read(Value value, PortAttr port) {
  for (auto [i, in] : llvm::enumerate(ins))
    if (in.value == value && in.port == port)
      return arguments(i);
  ins.push_back({value, port});
  SmallVector<Value> values;
  for (int64_t v = 0; v < port.numValues(); ++v)
    values.push_back(block().addArgument(compute, value.getLoc()));
  return values;
}

void RowKernel::removeIn(unsigned i) {
  unsigned first = cast<BlockArgument>(arguments(i).front()).getArgNumber();
  block().eraseArguments(first, ins[i].port.numValues());
  ins.erase(ins.begin() + i);
}

void RowKernel::addOut(Out out, ValueRange values) {
  outs.push_back(out);
  yield().getValuesMutable().append(values);
}

void RowKernel::removeOut(unsigned i) {
  yield()->eraseOperands(firstYield(outs, i), outs[i].port.numValues());
  outs.erase(outs.begin() + i);
}

LogicalResult RowKernel::splitColumns(ColumnLayout layout, int64_t count,
                                      std::string &why) {
  auto refuse = [&](const Twine &text) {
    why = (describe(op) + " " + text).str();
    return failure();
  };
  auto splittable = [&](PortAttr port) -> LogicalResult {
    if (port.getKind() == PortKind::Partials)
      return refuse("has partials, of segments of single columns");
    if (port.getCount() != 1)
      return refuse("reads or writes several columns at a time already");
    return success();
  };
  if (columns && columns.getCount() != 1)
    return refuse("has several accumulators a column already");
  for (const In &in : ins)
    if (failed(splittable(in.port)))
      return failure();
  for (const Out &out : outs)
    if (failed(splittable(out.port)))
      return failure();
  std::optional<int64_t> before = width();
  if (!before || *before % count)
    return refuse("has a number of columns that is no multiple of " +
                  Twine(count));

  auto split = [&](PortAttr port) {
    return port.hasColumns() ? PortAttr::get(port.getContext(), port.getKind(),
                                             port.getOrder(), layout, count)
                             : port;
  };
  Region old;
  old.takeBody(body);
  Block &from = old.front();
  OpBuilder b(op->getContext());
  Block *to = b.createBlock(&body);
  SmallVector<IRMapping> maps(count);
  unsigned number = 0;
  auto argument = [&](bool each) {
    BlockArgument whole = from.getArgument(number++);
    if (each) {
      for (IRMapping &map : maps)
        map.map(whole, to->addArgument(compute, whole.getLoc()));
      return;
    }
    BlockArgument shared = to->addArgument(compute, whole.getLoc());
    for (IRMapping &map : maps)
      map.map(whole, shared);
  };
  if (columns) {
    argument(true);
    columns = ColumnsAttr::get(op->getContext(), layout, count);
  }
  for (In &in : ins) {
    argument(in.port.hasColumns());
    in.port = split(in.port);
  }
  for (IRMapping &map : maps)
    for (Operation &inner : from.without_terminator())
      b.clone(inner, map);
  SmallVector<Value> values;
  auto yield = cast<YieldOp>(from.getTerminator());
  for (auto [out, value] : llvm::zip_equal(outs, yield.getOperands())) {
    bool sums = out.port.getKind() == PortKind::Sum;
    Value sum;
    for (IRMapping &map : MutableArrayRef(maps).take_front(
             sums || out.port.hasColumns() ? count : 1)) {
      Value mapped = map.lookup(value);
      if (!sums)
        values.push_back(mapped);
      else
        sum = sum ? arith::AddFOp::create(b, yield.getLoc(), sum, mapped)
                  : mapped;
    }
    if (sums)
      values.push_back(sum);
    out.port = split(out.port);
  }
  YieldOp::create(b, yield.getLoc(), values);
  return success();
}

Operation *RowKernel::commit(RewriterBase &rewriter,
                             ArrayRef<Operation *> alsoErased) {
  MLIRContext *context = op->getContext();
  SmallVector<Value> inValues, outValues;
  SmallVector<Attribute> inPorts, outPorts;
  SmallVector<Type> types;
  for (const In &in : ins) {
    inValues.push_back(in.value);
    inPorts.push_back(in.port);
  }
  SmallVector<Out> all(outs);
  llvm::append_range(all, folded);
  for (const Out &out : all) {
    outValues.push_back(out.init);
    outPorts.push_back(out.port);
    types.push_back(out.init.getType());
  }
  auto inAttr = ArrayAttr::get(context, inPorts);
  auto outAttr = ArrayAttr::get(context, outPorts);
  Location loc = op->getLoc();
  OpBuilder::InsertionGuard guard(rewriter);
  rewriter.setInsertionPointAfter(op);
  Operation *made =
      llvm::TypeSwitch<Operation *, Operation *>(op)
          .Case([&](GroupedMatmulOp op) {
            return GroupedMatmulOp::create(
                rewriter, loc, types, op.getAssignment(), lhs, rhs, inValues,
                outValues, ArrayAttr::get(context, lhsOrders),
                ArrayAttr::get(context, rhsLayouts), columns, inAttr, outAttr);
          })
          .Case([&](MapRowsOp op) {
            return MapRowsOp::create(rewriter, loc, types, op.getOrder(),
                                     op.getAssignment(), inValues, outValues,
                                     inAttr, outAttr);
          })
          .Case([&](CombineRowsOp op) {
            return CombineRowsOp::create(rewriter, loc, types,
                                         op.getAssignment(), inValues, addends,
                                         folds, outValues, inAttr, outAttr);
          })
          .Case([&](ReduceExpertsOp op) {
            return ReduceExpertsOp::create(
                rewriter, loc, types, op.getAssignment(), inValues, outValues,
                inAttr, outAttr, op.getAccumulate());
          })
          .Default(nullptr);
  made->setDiscardableAttrs(op->getDiscardableAttrDictionary());
  made->getRegion(0).takeBody(body);
  for (auto [out, result] : llvm::zip_equal(all, made->getResults()))
    if (out.old)
      rewriter.replaceAllUsesWith(out.old, result);
  // What goes may read one another, in either direction.
  SmallVector<Operation *> erased(alsoErased);
  erased.push_back(op);
  for (Operation *old : erased)
    old->dropAllReferences();
  for (Operation *old : erased)
    rewriter.eraseOp(old);
  sortTopologically(made->getBlock());
  return made;
}

//===----------------------------------------------------------------------===//
// What depends on what
//===----------------------------------------------------------------------===//

static bool reaches(SmallVector<Operation *> work, Operation *to) {
  llvm::SmallPtrSet<Operation *, 16> seen;
  while (!work.empty()) {
    Operation *next =
        to->getBlock()->findAncestorOpInBlock(*work.pop_back_val());
    if (next == to)
      return true;
    if (next && seen.insert(next).second)
      llvm::append_range(work, next->getUsers());
  }
  return false;
}

bool mlir::moe::dependsThroughOthers(Operation *from, Operation *to) {
  SmallVector<Operation *> others;
  for (Operation *user : from->getUsers())
    if (user != to)
      others.push_back(user);
  return reaches(std::move(others), to);
}

bool mlir::moe::dependsOn(Operation *from, Operation *to) {
  return reaches(SmallVector<Operation *>(from->getUsers()), to);
}

//===----------------------------------------------------------------------===//
// Joining two
//===----------------------------------------------------------------------===//

Value mlir::moe::asStored(OpBuilder &b, Location loc, Value value,
                          Type element) {
  if (value.getType() == element)
    return value;
  auto stored = arith::TruncFOp::create(b, loc, element, value);
  stored->setAttr(kStoredAttr, b.getUnitAttr());
  return arith::ExtFOp::create(b, loc, value.getType(), stored.getResult());
}

static Type elementOf(Value value) {
  return cast<ShapedType>(value.getType()).getElementType();
}

/// The port of the writer of a value, against that of its reader; how columns
/// lie may differ, which is settled later.
static LogicalResult fits(PortAttr written, PortAttr read, std::string &why) {
  if (written.getKind() == PortKind::Sum ||
      written.getKind() == PortKind::Partials) {
    why = "a row sum is known only when the kernel that makes it has ended";
    return failure();
  }
  if (written.getKind() == read.getKind() &&
      written.getOrder() == read.getOrder())
    return success();
  llvm::raw_string_ostream(why)
      << "rows are written as " << written << " and read as " << read;
  return failure();
}

std::unique_ptr<RowKernel> mlir::moe::join(Operation *hostOp, MapRowsOp guestOp,
                                           std::string &why) {
  auto refuse = [&](const Twine &text) {
    why = text.str();
    return nullptr;
  };
  if (hostOp->getBlock() != guestOp->getBlock())
    return refuse("the kernels are in different blocks");
  if (getAssignment(hostOp) != guestOp.getAssignment())
    return refuse("the kernels run over rows of different assignments");
  if (dependsThroughOthers(hostOp, guestOp) ||
      dependsThroughOthers(guestOp, hostOp))
    return refuse("one kernel needs the other through a third one");
  auto host = std::make_unique<RowKernel>(hostOp);
  auto guest = std::make_unique<RowKernel>(guestOp);

  // Links: what one writes and the other reads. Anything else of the other
  // that is an operand (rows of a product, addends) needs all of it first.
  struct Link {
    bool hostWrites;
    unsigned out, in;
  };
  SmallVector<Link> links;
  auto findLinks = [&](RowKernel &writer, RowKernel &reader, bool hostWrites) {
    for (auto [o, out] : llvm::enumerate(writer.outs))
      for (auto [i, in] : llvm::enumerate(reader.ins))
        if (in.value == out.old)
          links.push_back({hostWrites, unsigned(o), unsigned(i)});
  };
  findLinks(*host, *guest, true);
  findLinks(*guest, *host, false);
  unsigned edges = 0;
  for (auto [writer, reader] :
       {std::pair<Operation *, Operation *>{hostOp, guestOp},
        {guestOp, hostOp}})
    for (Value operand : reader->getOperands())
      edges += operand.getDefiningOp() == writer;
  if (edges != links.size())
    return refuse("the other kernel's rows are not read by a region but as an "
                  "operand that is needed whole");

  // One way to see the columns.
  auto align = [&](PortAttr hosts, PortAttr guests) -> LogicalResult {
    if (!hosts.hasColumns() || (hosts.getLayout() == guests.getLayout() &&
                                hosts.getCount() == guests.getCount()))
      return success();
    if (hosts.getCount() == 1)
      return host->splitColumns(guests.getLayout(), guests.getCount(), why);
    if (guests.getCount() == 1)
      return guest->splitColumns(hosts.getLayout(), hosts.getCount(), why);
    llvm::raw_string_ostream(why)
        << "columns lie as " << hosts << " in one kernel and as " << guests
        << " in the other";
    return failure();
  };
  for (const Link &link : links) {
    RowKernel &writer = link.hostWrites ? *host : *guest;
    RowKernel &reader = link.hostWrites ? *guest : *host;
    if (failed(fits(writer.outs[link.out].port, reader.ins[link.in].port, why)))
      return nullptr;
    PortAttr hosts =
        link.hostWrites ? host->outs[link.out].port : host->ins[link.in].port;
    PortAttr guests =
        link.hostWrites ? guest->ins[link.in].port : guest->outs[link.out].port;
    if (failed(align(hosts, guests)))
      return nullptr;
  }
  if (links.empty())
    for (RowKernel::In &hosts : host->ins)
      for (RowKernel::In &guests : guest->ins)
        if (hosts.value == guests.value && hosts.port.hasColumns() &&
            guests.port.hasColumns() && host->width() != guest->width() &&
            failed(align(hosts.port, guests.port)))
          return nullptr;
  std::optional<int64_t> guestWidth = guest->width(), width = host->width();
  if (guestWidth && width != guestWidth)
    return refuse("one kernel has " + (width ? Twine(*width) : Twine("no")) +
                  " columns, the other " + Twine(*guestWidth));

  // Results that others read stay results, and are read as they are stored.
  auto readElsewhere = [&](Value result, Operation *by) {
    return llvm::any_of(result.getUsers(),
                        [&](Operation *user) { return user != by; });
  };
  bool keepsOuts = isa<GroupedMatmulOp, MapRowsOp>(hostOp);
  for (const RowKernel::Out &out : guest->outs) {
    if (!readElsewhere(out.old, hostOp))
      continue;
    if (!keepsOuts)
      return refuse("the rows have other readers than this kernel, and would "
                    "be computed twice");
    if (out.port.getKind() == PortKind::Scalar && width)
      return refuse("a kernel with columns cannot write row scalars");
  }
  auto readsPartials = [](const RowKernel::In &in) {
    return in.port.getKind() == PortKind::Partials;
  };
  if (!guestWidth && width && llvm::any_of(guest->ins, readsPartials))
    return refuse("partials have the columns of another kernel");

  // Arguments of the guest, but for what the host writes.
  IRMapping map;
  OpBuilder b(hostOp->getContext());
  bool guestFirst =
      llvm::any_of(links, [](const Link &link) { return !link.hostWrites; });
  for (auto [i, in] : llvm::enumerate(guest->ins)) {
    SmallVector<Value> values;
    const Link *link = llvm::find_if(links, [&, i = i](const Link &link) {
      return link.hostWrites && link.in == i;
    });
    if (link != links.end()) {
      b.setInsertionPoint(host->yield());
      Value old = host->outs[link->out].old;
      for (Value value : host->yielded(link->out))
        values.push_back(
            readElsewhere(old, guestOp)
                ? asStored(b, guestOp.getLoc(), value, elementOf(old))
                : value);
    } else {
      values = host->read(in.value, in.port);
    }
    map.map(guest->arguments(i), values);
  }
  if (guestFirst)
    b.setInsertionPointToStart(&host->block());
  else
    b.setInsertionPoint(host->yield());
  for (Operation &inner : guest->block().without_terminator())
    b.clone(inner, map);
  auto yieldedOf = [&](unsigned out) {
    return llvm::map_to_vector(guest->yielded(out),
                               [&](Value value) { return map.lookup(value); });
  };
  // Arguments of the host that the guest writes.
  SmallVector<unsigned> gone;
  for (const Link &link : links) {
    if (link.hostWrites)
      continue;
    Value old = guest->outs[link.out].old;
    for (auto [argument, value] :
         llvm::zip_equal(host->arguments(link.in), yieldedOf(link.out)))
      argument.replaceAllUsesWith(
          readElsewhere(old, hostOp)
              ? asStored(b, guestOp.getLoc(), value, elementOf(old))
              : value);
    gone.push_back(link.in);
  }
  llvm::sort(gone, std::greater<unsigned>());
  for (unsigned in : gone)
    host->removeIn(in);
  // Results that only the other one read go.
  for (unsigned i = host->outs.size(); i-- > 0;)
    if (!host->outs[i].old.use_empty() &&
        !readElsewhere(host->outs[i].old, guestOp))
      host->removeOut(i);
  for (auto [i, out] : llvm::enumerate(guest->outs))
    if (readElsewhere(out.old, hostOp))
      host->addOut(out, yieldedOf(i));
  return host;
}

//===----------------------------------------------------------------------===//
// Remarks
//===----------------------------------------------------------------------===//

std::string mlir::moe::describe(Operation *op) {
  std::string text;
  llvm::raw_string_ostream os(text);
  os << op->getName() << " -> ";
  llvm::interleaveComma(op->getResultTypes(), os);
  return text;
}

static remark::RemarkOpts remarkOpts(Operation *op, StringRef pass) {
  auto function = op->getParentOfType<FunctionOpInterface>();
  return remark::RemarkOpts::name(pass)
      .category("moe-fuse")
      .function(function ? function.getName() : StringRef());
}

void mlir::moe::remarkFused(Operation *op, StringRef pass, const Twine &what,
                            Type buffer, RowOrder order) {
  auto remark = remark::passed(op->getLoc(), remarkOpts(op, pass));
  if (!remark)
    return;
  remark << remark::add("{0}", what.str());
  auto type = dyn_cast_or_null<ShapedType>(buffer);
  if (!type)
    return;
  // Bytes a token: rows a token times the width of a row.
  int64_t bytes = type.getElementTypeBitWidth() / 8;
  for (int64_t size : type.getShape().drop_front())
    bytes *= size;
  Value assignment = getAssignment(op);
  if (order != RowOrder::Token && assignment)
    bytes *= getAssignmentType(assignment).getK();
  remark << remark::metric("Buffer", Type(type))
         << remark::metric("BytesPerToken", bytes);
}

void mlir::moe::remarkRefused(Operation *op, StringRef pass, const Twine &what,
                              const Twine &reason) {
  auto remark = remark::missed(op->getLoc(), remarkOpts(op, pass));
  if (!remark)
    return;
  remark << remark::add("{0}", what.str())
         << remark::reason("{0}", reason.str());
}
