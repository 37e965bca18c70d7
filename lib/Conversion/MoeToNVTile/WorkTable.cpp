// SPDX-License-Identifier: Apache-2.0
// The work table of an assignment: see nvtile.work_item; and lists of parts.
#include "WorkTable.h"
#include "KernelBuilder.h"

#include "llvm/Support/FormatVariadic.h"

using namespace mlir;
using namespace mlir::moe;

/// One warp for each expert: it finds its rank among all, and writes its entry
/// and its row blocks. {0} is E, {1} where row blocks start, {2} the kernel's
/// name. Ranges are cut to the rows there are, so that wrong ones read nothing
/// else. The other numbers are places for lists of parts, see Parts below.
static constexpr StringRef kKernel = R"mlir(
gpu.module @{2}_module {{
  gpu.func @{2}(%begin: memref<{0}xi32>, %end: memref<{0}xi32>,
                %order: memref<?xi32>, %table: memref<?xi32>{3}) kernel {{
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c2 = arith.constant 2 : index
    %c3 = arith.constant 3 : index
    %c4 = arith.constant 4 : index
    %c5 = arith.constant 5 : index
    %c32 = arith.constant 32 : index
    %experts = arith.constant {0} : index
    %firstBlock = arith.constant {1} : index
    %zero = arith.constant 0 : i32
    %one = arith.constant 1 : i32
    %lanes = arith.constant 32 : i32
    %block = arith.constant 128 : i32
    %round = arith.constant 127 : i32
    %count = arith.constant {0} : i32
    %expert = gpu.block_id x
    %lane = gpu.thread_id x
    %id = arith.index_cast %expert : index to i32
    %rows = memref.dim %order, %c0 : memref<?xi32>
    %slots = arith.index_cast %rows : index to i32
    %b0 = memref.load %begin[%expert] : memref<{0}xi32>
    %b1 = arith.maxsi %b0, %zero : i32
    %mine = arith.minsi %b1, %slots : i32
    %e0 = memref.load %end[%expert] : memref<{0}xi32>
    %e1 = arith.maxsi %e0, %mine : i32
    %last = arith.minsi %e1, %slots : i32
    %size = arith.subi %last, %mine : i32
    %more = arith.addi %size, %round : i32
    %blocks = arith.divui %more, %block : i32
{4}
    %sums:{5} = scf.for %other = %lane to %experts step %c32
        iter_args(%rank = %zero, %before = %zero, %all = %zero{6}) -> (i32, i32, i32{7}) {{
      %f0 = memref.load %begin[%other] : memref<{0}xi32>
      %f1 = arith.maxsi %f0, %zero : i32
      %f2 = arith.minsi %f1, %slots : i32
      %g0 = memref.load %end[%other] : memref<{0}xi32>
      %g1 = arith.maxsi %g0, %f2 : i32
      %g2 = arith.minsi %g1, %slots : i32
      %itsSize = arith.subi %g2, %f2 : i32
      %itsMore = arith.addi %itsSize, %round : i32
      %itsBlocks = arith.divui %itsMore, %block : i32
      %larger = arith.cmpi sgt, %itsSize, %size : i32
      %equal = arith.cmpi eq, %itsSize, %size : i32
      %lower = arith.cmpi ult, %other, %expert : index
      %tie = arith.andi %equal, %lower : i1
      %first = arith.ori %larger, %tie : i1
      %step = arith.extui %first : i1 to i32
      %rank1 = arith.addi %rank, %step : i32
      %counted = arith.select %first, %itsBlocks, %zero : i32
      %before1 = arith.addi %before, %counted : i32
      %all1 = arith.addi %all, %itsBlocks : i32
{8}
      scf.yield %rank1, %before1, %all1{9} : i32, i32, i32{7}
    }
    %tree:4 = scf.for %i = %c0 to %c5 step %c1
        iter_args(%rank = %sums#0, %before = %sums#1, %all = %sums#2, %distance = %one)
        -> (i32, i32, i32, i32) {{
      %r, %v0 = gpu.shuffle xor %rank, %distance, %lanes : i32
      %q, %v1 = gpu.shuffle xor %before, %distance, %lanes : i32
      %a, %v2 = gpu.shuffle xor %all, %distance, %lanes : i32
      %rank1 = arith.addi %rank, %r : i32
      %before1 = arith.addi %before, %q : i32
      %all1 = arith.addi %all, %a : i32
      %further = arith.addi %distance, %distance : i32
      scf.yield %rank1, %before1, %all1, %further : i32, i32, i32, i32
    }
    %writes = arith.cmpi eq, %lane, %c0 : index
    scf.if %writes {{
      %rankIndex = arith.index_cast %tree#0 : i32 to index
      %words = arith.muli %rankIndex, %c4 : index
      %w0 = arith.addi %words, %c4 : index
      %w1 = arith.addi %w0, %c1 : index
      %w2 = arith.addi %w0, %c2 : index
      %w3 = arith.addi %w0, %c3 : index
      memref.store %mine, %table[%w0] : memref<?xi32>
      memref.store %last, %table[%w1] : memref<?xi32>
      memref.store %id, %table[%w2] : memref<?xi32>
      memref.store %zero, %table[%w3] : memref<?xi32>
      %isFirst = arith.cmpi eq, %expert, %c0 : index
      scf.if %isFirst {{
        memref.store %tree#2, %table[%c0] : memref<?xi32>
        memref.store %count, %table[%c1] : memref<?xi32>
        memref.store %slots, %table[%c2] : memref<?xi32>
        memref.store %zero, %table[%c3] : memref<?xi32>
      }
    }
    %blockCount = arith.index_cast %blocks : i32 to index
    %blocksBefore = arith.index_cast %tree#1 : i32 to index
{10}
    scf.for %i = %lane to %blockCount step %c32 {{
      %number = arith.addi %blocksBefore, %i : index
      %words = arith.muli %number, %c4 : index
      %w0 = arith.addi %words, %firstBlock : index
      %w1 = arith.addi %w0, %c1 : index
      %w2 = arith.addi %w0, %c2 : index
      %w3 = arith.addi %w0, %c3 : index
      %i32 = arith.index_cast %i : index to i32
      %offset = arith.muli %i32, %block : i32
      %row = arith.addi %mine, %offset : i32
      memref.store %row, %table[%w0] : memref<?xi32>
      memref.store %last, %table[%w1] : memref<?xi32>
      memref.store %id, %table[%w2] : memref<?xi32>
      memref.store %zero, %table[%w3] : memref<?xi32>
    }
    gpu.return
  }
}
)mlir";

/// A list of parts in the work table's kernel, as text: it is written by the
/// same warps, which know each expert's rank.
namespace {
struct Parts {
  /// Its place among the lists, N, and E.
  int64_t list, most, experts;

  std::string text(StringRef lines) const {
    return llvm::formatv(lines.data(), list, most, experts, words(),
                         experts + most, kLeastPartRows,
                         nvtile::kWorkHeader +
                             nvtile::kWorkEntry * (experts + most));
  }
  /// Words of the list: at most N experts are split.
  int64_t words() const {
    return nvtile::kWorkHeader + nvtile::kWorkEntry * (experts + 2 * most);
  }
  std::string parameter() const { return text(", %list{0}: memref<{3}xi32>"); }
  std::string inits() const {
    return text(", %ahead{0} = %zero, %entries{0} = %zero, %splits{0} = %zero");
  }
  std::string yields() const {
    return text(", %ahead{0}_1, %entries{0}_1, %splits{0}_1");
  }
  /// Of an expert of `size` rows: whether it is split, the rows of a part, and
  /// the number of parts (one for an expert without rows).
  std::string count(StringRef prefix, StringRef size) const {
    std::string lines = text(R"mlir(
      %@floor{0} = arith.divui #, %long{0} : i32
      %@split{0} = arith.cmpi ugt, %@floor{0}, %one : i32
      %@some{0} = arith.maxui %@floor{0}, %one : i32
      %@less{0} = arith.subi %@some{0}, %one : i32
      %@more{0} = arith.addi #, %@less{0} : i32
      %@even{0} = arith.divui %@more{0}, %@some{0} : i32
      %@up{0} = arith.addi %@even{0}, %c63 : i32
      %@whole{0} = arith.andi %@up{0}, %steps : i32
      %@cut{0} = arith.select %@split{0}, %@whole{0}, %@even{0} : i32
      %@each{0} = arith.maxui %@cut{0}, %one : i32
      %@last{0} = arith.subi %@each{0}, %one : i32
      %@over{0} = arith.addi #, %@last{0} : i32
      %@full{0} = arith.divui %@over{0}, %@each{0} : i32
      %@parts{0} = arith.maxui %@full{0}, %one : i32)mlir");
    std::string named;
    for (char c : lines)
      if (c == '@')
        named += prefix;
      else if (c == '#')
        named += size;
      else
        named += c;
    return named;
  }
  std::string before() const {
    return text(R"mlir(
    %n{0} = arith.constant {1} : i32
    %n{0}less = arith.subi %n{0}, %one : i32
    %n{0}more = arith.addi %slots, %n{0}less : i32
    %mean{0} = arith.divui %n{0}more, %n{0} : i32
    %least{0} = arith.constant {5} : i32
    %least{0}or = arith.maxui %mean{0}, %least{0} : i32
    %least{0}up = arith.addi %least{0}or, %c63 : i32
    %long{0} = arith.andi %least{0}up, %steps : i32)mlir") +
           count("own", "%size");
  }
  std::string inLoop() const {
    return count("its", "%itsSize") + text(R"mlir(
      %aheadOf{0} = arith.select %first, %itsparts{0}, %zero : i32
      %ahead{0}_1 = arith.addi %ahead{0}, %aheadOf{0} : i32
      %entries{0}_1 = arith.addi %entries{0}, %itsparts{0} : i32
      %one{0} = arith.extui %itssplit{0} : i1 to i32
      %splits{0}_1 = arith.addi %splits{0}, %one{0} : i32)mlir");
  }
  /// Sums over the warp, then the list. A wrong table, whose experts overlap,
  /// may have more parts than there is room for: they are left out.
  std::string after() const {
    std::string code = text(R"mlir(
    %tree{0}:4 = scf.for %i = %c0 to %c5 step %c1
        iter_args(%x = %sums#)mlir");
    code += reason(3 + 3 * list, ", %y = %sums#", 4 + 3 * list, ", %z = %sums#",
                   5 + 3 * list);
    return code + text(R"mlir(, %distance = %one)
        -> (i32, i32, i32, i32) {{
      %x0, %v0 = gpu.shuffle xor %x, %distance, %lanes : i32
      %y0, %v1 = gpu.shuffle xor %y, %distance, %lanes : i32
      %z0, %v2 = gpu.shuffle xor %z, %distance, %lanes : i32
      %x1 = arith.addi %x, %x0 : i32
      %y1 = arith.addi %y, %y0 : i32
      %z1 = arith.addi %z, %z0 : i32
      %further = arith.addi %distance, %distance : i32
      scf.yield %x1, %y1, %z1, %further : i32, i32, i32, i32
    }
    %room{0} = arith.constant {4} : i32
    %header{0} = arith.cmpi eq, %expert, %c0 : index
    %writes{0} = arith.andi %header{0}, %writes : i1
    scf.if %writes{0} {{
      %entries = arith.minui %tree{0}#1, %room{0} : i32
      %splits = arith.minui %tree{0}#2, %n{0} : i32
      memref.store %entries, %list{0}[%c0] : memref<{3}xi32>
      memref.store %splits, %list{0}[%c1] : memref<{3}xi32>
      memref.store %zero, %list{0}[%c2] : memref<{3}xi32>
      memref.store %zero, %list{0}[%c3] : memref<{3}xi32>
    }
    %few{0} = arith.cmpi ult, %tree#0, %n{0} : i32
    %known{0} = arith.andi %few{0}, %ownsplit{0} : i1
    %folds{0} = arith.andi %known{0}, %writes : i1
    scf.if %folds{0} {{
      %base = arith.constant {6} : index
      %rankIndex = arith.index_cast %tree#0 : i32 to index
      %words = arith.muli %rankIndex, %c4 : index
      %w0 = arith.addi %words, %base : index
      %w1 = arith.addi %w0, %c1 : index
      %w2 = arith.addi %w0, %c2 : index
      %w3 = arith.addi %w0, %c3 : index
      memref.store %tree{0}#0, %list{0}[%w0] : memref<{3}xi32>
      memref.store %ownparts{0}, %list{0}[%w1] : memref<{3}xi32>
      memref.store %id, %list{0}[%w2] : memref<{3}xi32>
      memref.store %zero, %list{0}[%w3] : memref<{3}xi32>
    }
    %start{0} = arith.minui %tree{0}#0, %room{0} : i32
    %left{0} = arith.subi %room{0}, %start{0} : i32
    %fit{0} = arith.minui %ownparts{0}, %left{0} : i32
    %partCount{0} = arith.index_cast %fit{0} : i32 to index
    scf.for %i = %lane to %partCount{0} step %c32 {{
      %i32 = arith.index_cast %i : index to i32
      %number = arith.addi %tree{0}#0, %i32 : i32
      %part = arith.addi %number, %count : i32
      %who = arith.select %ownsplit{0}, %part, %id : i32
      %offset = arith.muli %i32, %owneach{0} : i32
      %row = arith.addi %mine, %offset : i32
      %stop = arith.addi %row, %owneach{0} : i32
      %rowEnd = arith.minsi %stop, %last : i32
      %index = arith.index_cast %number : i32 to index
      %words = arith.muli %index, %c4 : index
      %w0 = arith.addi %words, %c4 : index
      %w1 = arith.addi %w0, %c1 : index
      %w2 = arith.addi %w0, %c2 : index
      %w3 = arith.addi %w0, %c3 : index
      memref.store %row, %list{0}[%w0] : memref<{3}xi32>
      memref.store %rowEnd, %list{0}[%w1] : memref<{3}xi32>
      memref.store %who, %list{0}[%w2] : memref<{3}xi32>
      memref.store %zero, %list{0}[%w3] : memref<{3}xi32>
    })mlir");
  }
};
} // namespace

/// The kernel's text with a place for each list.
static std::string kernelText(StringRef name, int64_t experts,
                              int64_t firstBlock, ArrayRef<Parts> lists) {
  std::string parameters, before, inits, types, inLoop, yields, after;
  if (!lists.empty())
    before = "    %c63 = arith.constant 63 : i32\n"
             "    %steps = arith.constant -64 : i32";
  for (const Parts &list : lists) {
    parameters += list.parameter();
    before += list.before();
    inits += list.inits();
    types += ", i32, i32, i32";
    inLoop += list.inLoop();
    yields += list.yields();
    after += list.after();
  }
  return llvm::formatv(kKernel.data(), experts, firstBlock, name, parameters,
                       before, 3 + 3 * lists.size(), inits, types, inLoop,
                       yields, after);
}

WorkTables mlir::moe::emitWorkTables(PackAssignmentOp pack,
                                     ArrayRef<int64_t> parts) {
  int64_t experts = getAssignmentType(pack.getAssignment()).getExperts();
  int64_t firstBlock = nvtile::kWorkHeader + nvtile::kWorkEntry * experts;
  std::string name = reason("moe_work_table_", experts);
  SmallVector<Parts> lists;
  for (int64_t most : parts) {
    name += reason(lists.empty() ? "_parts_" : "_", most);
    lists.push_back({int64_t(lists.size()), most, experts});
  }
  ImplicitLocOpBuilder b(pack.getLoc(), pack);
  b.setInsertionPointAfter(pack);
  // At most one block for each row, and one short one for each expert.
  Value rows = memref::DimOp::create(b, pack.getOrder(), 0);
  Value words =
      arith::AddIOp::create(b, rows,
                            arith::ConstantIndexOp::create(
                                b, firstBlock + nvtile::kWorkEntry * experts));
  auto dynamic = MemRefType::get({ShapedType::kDynamic}, b.getI32Type());
  WorkTables tables;
  tables.work = memref::AllocOp::create(b, dynamic, ValueRange(words));
  Values operands{pack.getBegin(), pack.getEnd(),
                  castToDynamic(b, pack.getOrder()), tables.work};
  for (const Parts &list : lists) {
    auto type = MemRefType::get({list.words()}, b.getI32Type());
    tables.parts[list.most] = memref::AllocOp::create(b, type);
    operands.push_back(tables.parts[list.most]);
  }
  launchKernelText(b, name, kernelText(name, experts, firstBlock, lists),
                   arith::ConstantIndexOp::create(b, experts),
                   arith::ConstantIndexOp::create(b, 32), operands);
  return tables;
}
