// SPDX-License-Identifier: Apache-2.0
// The ops of the `nvtile` dialect.
#ifndef MOE_DIALECT_NVTILE_IR_NVTILEOPS_TD
#define MOE_DIALECT_NVTILE_IR_NVTILEOPS_TD

include "moe/Dialect/NVTile/IR/NVTileDialect.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/Interfaces/ViewLikeInterface.td"

class NVTile_Op<string mnemonic, list<Trait> traits = []>
    : Op<NVTile_Dialect, mnemonic, traits>;

def NVTile_Memory : MemRefRankOf<[BF16, F16, F32, I32], [1, 2, 3]>;
def NVTile_Table : MemRefRankOf<[I32], [1]>;

//===----------------------------------------------------------------------===//
// On the host
//===----------------------------------------------------------------------===//

def NVTile_TensorMapOp : NVTile_Op<"tensor_map",
    [Pure, AttrSizedOperandSegments,
     DeclareOpInterfaceMethods<ViewLikeOpInterface>]> {
  let summary = "tell the copy engine a tensor's layout";
  let description = [{
    Innermost dimension first: `dims` are numbers of elements, `strides` bytes
    between elements of dimension 1, 2, ...; `box` is what one copy brings.
    SWIZZLE_128B: the box's first size is 64 elements of 16 bits. Elements
    outside the dims read as zero and are not written.

    Constraints:
    * (C1) 2 to 5 dims, one stride less, a box size in 1..256 for each dim
    * (C2) box[0] is 128 bytes

    ```
    %m = nvtile.tensor_map %x dims [%d, %rows] strides [%pitch] box [64, 128]
        : memref<?x512xbf16> -> !nvtile.tensor_map<bf16>
    ```
  }];
  let arguments = (ins NVTile_Memory:$source, Variadic<Index>:$dims,
                       Variadic<Index>:$strides, DenseI64ArrayAttr:$box);
  let results = (outs NVTile_TensorMapType:$map);
  let assemblyFormat = [{
    $source `dims` `[` $dims `]` `strides` `[` $strides `]` `box` $box attr-dict
    `:` type($source) `->` type($map)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Shared memory and warpgroups
//===----------------------------------------------------------------------===//

def NVTile_MakeRingOp : NVTile_Op<"make_ring"> {
  let summary = "a ring and its barriers";
  let description = [{
    `full` completes on `fills` arrivals and the bytes expected, `empty` on
    `releases` arrivals (one a warp). Before `nvtile.specialize`.

    ```
    %ring = nvtile.make_ring fills 129 releases 8 : !nvtile.ring<4 x [128, 256]>
    ```
  }];
  let arguments = (ins I32Attr:$fills, I32Attr:$releases);
  let results = (outs NVTile_RingType:$ring);
  let assemblyFormat = [{
    `fills` $fills `releases` $releases attr-dict `:` type($ring)
  }];
}

def NVTile_MakeStagingOp : NVTile_Op<"make_staging"> {
  let summary = "staging buffers of both consuming warpgroups";
  let results = (outs NVTile_StagingType:$staging);
  let assemblyFormat = "attr-dict `:` type($staging)";
}

def NVTile_MakeTurnsOp : NVTile_Op<"make_turns"> {
  let summary = "let the consuming warpgroups take turns";
  let description = [{
    Before `nvtile.specialize`.
  }];
  let results = (outs NVTile_TurnsType:$turns);
  let assemblyFormat = "attr-dict `:` type($turns)";
}

def NVTile_SpecializeOp : NVTile_Op<"specialize",
    [SingleBlock, NoTerminator, RecursiveMemoryEffects]> {
  let summary = "a producing and two consuming warpgroups, with their registers";
  let description = [{
    The consumers' region has the warpgroup's number, 0 or 1, as argument. All
    barriers are ready when a region starts.

    ```
    nvtile.specialize produce 56 {
    } consume 224 {
    ^bb0(%warpgroup: i32):
    }
    ```
  }];
  let arguments = (ins I32Attr:$produceRegisters, I32Attr:$consumeRegisters);
  let regions = (region SizedRegion<1>:$produce, SizedRegion<1>:$consume);
  let assemblyFormat = [{
    `produce` $produceRegisters $produce `consume` $consumeRegisters $consume
    attr-dict
  }];
  let hasVerifier = 1;
}

def NVTile_ElectOp : NVTile_Op<"elect",
    [SingleBlock, NoTerminator, RecursiveMemoryEffects]> {
  let summary = "one thread of the producing warpgroup";
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$body attr-dict";
}

//===----------------------------------------------------------------------===//
// Work
//===----------------------------------------------------------------------===//

def NVTile_WorkCountOp : NVTile_Op<"work_count", [MemoryEffects<[MemRead]>]> {
  let summary = "the number of row blocks in a work table";
  let arguments = (ins NVTile_Table:$table);
  let results = (outs I32:$count);
  let assemblyFormat = "$table attr-dict `:` type($table)";
}

def NVTile_WorkSlotsOp : NVTile_Op<"work_slots", [MemoryEffects<[MemRead]>]> {
  let summary = "the number of slots, in a work table";
  let arguments = (ins NVTile_Table:$table);
  let results = (outs I32:$slots);
  let assemblyFormat = "$table attr-dict `:` type($table)";
}

def NVTile_WorkItemOp : NVTile_Op<"work_item", [MemoryEffects<[MemRead]>]> {
  let summary = "an entry of a work table: first row, end, expert";
  let description = [{
    A work table (i32): [0] the number B of row blocks, [1] E, [2] the number of
    slots, [3] zero; then
    (begin, end, expert, 0) of each expert, the largest first, ties to the lower
    id, empty ones included; then (first row, end, expert, 0) of each block of up
    to 128 rows, experts in the same order. With `experts` entry i of the first
    list, otherwise of the second, in a table of that many experts.

    ```
    %first, %end, %expert = nvtile.work_item %table[%i] of 8 : memref<?xi32>
    ```
  }];
  let arguments = (ins NVTile_Table:$table, I32:$index, I32Attr:$experts,
                       UnitAttr:$byExpert);
  let results = (outs I32:$first, I32:$end, I32:$expert);
  let assemblyFormat = [{
    (`experts` $byExpert^)? $table `[` $index `]` `of` $experts attr-dict `:`
    type($table)
  }];
}

//===----------------------------------------------------------------------===//
// Ring
//===----------------------------------------------------------------------===//

class NVTile_RingOp<string mnemonic> : NVTile_Op<mnemonic> {
  let arguments = (ins NVTile_RingType:$ring, I32:$position);
  let assemblyFormat = "$ring `[` $position `]` attr-dict `:` type($ring)";
}

def NVTile_AcquireOp : NVTile_RingOp<"acquire"> {
  let summary = "wait until the consumers have released the stage";
}
def NVTile_AwaitOp : NVTile_Op<"await"> {
  let summary = "wait until the stage is full";
  let description = [{
    `gathered` makes what threads copied into the stage visible to `nvtile.mma`,
    which reads it as the copy engine would (another proxy, in PTX's terms).
  }];
  let arguments = (ins NVTile_RingType:$ring, I32:$position,
                       UnitAttr:$gathered);
  let assemblyFormat = [{
    $ring `[` $position `]` (`gathered` $gathered^)? attr-dict `:` type($ring)
  }];
}
def NVTile_ReleaseOp : NVTile_RingOp<"release"> {
  let summary = "this warp reads the stage no more";
}

def NVTile_ExpectOp : NVTile_Op<"expect"> {
  let summary = "arrive on `full` and expect the bytes of the loads that follow";
  let description = [{
    By one thread (`nvtile.elect`), before the loads it counts.
  }];
  let arguments = (ins NVTile_RingType:$ring, I32:$position, I32Attr:$bytes);
  let assemblyFormat = [{
    $ring `[` $position `]` $bytes `bytes` attr-dict `:` type($ring)
  }];
}

def NVTile_LoadOp : NVTile_Op<"load"> {
  let summary = "the copy engine brings a box into a tile";
  let description = [{
    To row `row` of tile `tile` of the position's stage, whose `full` counts its
    bytes. By one thread.

    ```
    nvtile.load %map[%k, %n, %e] to %ring[%p] tile 1 row 128
        : !nvtile.tensor_map<bf16>, !nvtile.ring<4 x [128, 256]>
    ```
  }];
  let arguments = (ins NVTile_TensorMapType:$map, Variadic<I32>:$coordinates,
                       NVTile_RingType:$ring, I32:$position, I32Attr:$tile,
                       I32Attr:$row);
  let assemblyFormat = [{
    $map `[` $coordinates `]` `to` $ring `[` $position `]` `tile` $tile `row`
    $row attr-dict `:` type($map) `,` type($ring)
  }];
  let hasVerifier = 1;
}

def NVTile_RowIdsOp : NVTile_Op<"row_ids", [MemoryEffects<[MemRead]>]> {
  let summary = "where the rows of a tile come from";
  let description = [{
    For the producing warpgroup's thread t the ids of rows first + t / 8 + 16 i:
    ids[row] / divide. Rows from `end` on have the id of the last row before it,
    or 0 where `first` is not below `end`. With `slots`, an id that is not below it
    is taken as the last one that is.

    ```
    %ids = nvtile.row_ids %order[%first to %end] below %slots divide 8
        : memref<?xi32> -> vector<8xi32>
    ```
  }];
  let arguments = (ins NVTile_Table:$table, I32:$first, I32:$end,
                       Optional<I32>:$slots, I32Attr:$divide);
  let results = (outs VectorOfRankAndType<[1], [I32]>:$ids);
  let assemblyFormat = [{
    $table `[` $first `to` $end `]` (`below` $slots^)? `divide` $divide attr-dict
    `:` type($table) `->` type($ids)
  }];
}

def NVTile_GatherOp : NVTile_Op<"gather"> {
  let summary = "every producing thread copies 16-byte pieces of gathered rows";
  let description = [{
    Rows `ids` (16 of them for each element of a thread's vector), 64 columns
    from `column`, into tile `tile`. A tile of more rows than ids gets further
    blocks of the next 64 columns. Columns past the row's width read as zero, as
    do rows from `count` on where it is given.

    ```
    nvtile.gather %x[%ids, %k] to %ring[%p] tile 0
        : memref<?x512xbf16>, vector<8xi32>, !nvtile.ring<4 x [128, 256]>
    ```
  }];
  let arguments = (ins MemRefRankOf<[BF16, F16], [2]>:$source,
                       VectorOfRankAndType<[1], [I32]>:$ids, I32:$column,
                       Optional<I32>:$count, NVTile_RingType:$ring,
                       I32:$position, I32Attr:$tile);
  let assemblyFormat = [{
    $source `[` $ids `,` $column `]` (`count` $count^)? `to` $ring `[` $position
    `]` `tile` $tile attr-dict `:` type($source) `,` type($ids) `,` type($ring)
  }];
  let hasVerifier = 1;
}

def NVTile_CommitOp : NVTile_RingOp<"commit"> {
  let summary = "signal the stage when this thread's gathers have landed";
  let description = [{
    An arrival on `full` that the hardware makes once every copy the thread has
    started before is done; the thread goes on. Every producing thread.
  }];
}

def NVTile_DrainOp : NVTile_Op<"drain"> {
  let summary = "wait for this thread's gathers";
  let assemblyFormat = "attr-dict";
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

def NVTile_ZeroOp : NVTile_Op<"zero", [Pure]> {
  let summary = "a fragment of zeros";
  let results = (outs NVTile_FragmentType:$fragment);
  let assemblyFormat = "attr-dict `:` type($fragment)";
}

def NVTile_MmaOp : NVTile_Op<"mma",
    [AllTypesMatch<["accumulator", "result"]>, AttrSizedOperandSegments]> {
  let summary = "start adding the product of a stage's tiles";
  let description = [{
    64 rows of tile `lhs` times tile `rhs`, over 64 contraction steps, as one
    group of wgmma. A tile of 128 rows is shared by the warpgroups, and
    `warpgroup` says whose half it is; a tile of 64 rows is one warpgroup's. The
    right tile may lie in another ring. Nothing but `nvtile.mma` and
    `nvtile.mma_wait` may touch the result before it is waited for. `lhs_mn` and
    `rhs_mn` say that a tile is MN-major.

    ```
    %r = nvtile.mma %ring[%p], %acc lhs 0 rhs 1 warpgroup %w bf16
        : !nvtile.ring<4 x [128, 256]>, !nvtile.fragment<64x256>
    %s = nvtile.mma %rows[%p], %acc lhs 0 rhs 0 of %weights[%q] bf16
        : !nvtile.ring<8 x [64]> of !nvtile.ring<4 x [256]>, !nvtile.fragment<64x256>
    ```
  }];
  let arguments = (ins NVTile_RingType:$ring, I32:$position,
                       NVTile_FragmentType:$accumulator, I32Attr:$lhs,
                       I32Attr:$rhs, Optional<NVTile_RingType>:$rhsRing,
                       Optional<I32>:$rhsPosition, Optional<I32>:$warpgroup,
                       TypeAttr:$elementType, UnitAttr:$lhs_mn,
                       UnitAttr:$rhs_mn);
  let results = (outs NVTile_FragmentType:$result);
  let assemblyFormat = [{
    $ring `[` $position `]` `,` $accumulator `lhs` $lhs (`mn` $lhs_mn^)? `rhs`
    $rhs (`mn` $rhs_mn^)? (`of` $rhsRing^ `[` $rhsPosition `]`)?
    (`warpgroup` $warpgroup^)? $elementType attr-dict `:` type($ring)
    (`of` type($rhsRing)^)? `,` type($result)
  }];
  let hasVerifier = 1;
}

def NVTile_MmaWaitOp : NVTile_Op<"mma_wait",
    [AllTypesMatch<["accumulator", "result"]>]> {
  let summary = "all but the last `pending` products are done";
  let arguments = (ins NVTile_FragmentType:$accumulator, I32Attr:$pending);
  let results = (outs NVTile_FragmentType:$result);
  let assemblyFormat = [{
    $accumulator `pending` $pending attr-dict `:` type($result)
  }];
}

//===----------------------------------------------------------------------===//
// Tiles of an epilogue
//===----------------------------------------------------------------------===//

def NVTile_ReadOp : NVTile_Op<"read"> {
  let summary = "64 rows of a tile as rounded fragments";
  let description = [{
    For operands of an epilogue, which come through the ring like those of a
    product: rows `row` + 64 * warpgroup on of tile `tile`, which is rows of 64
    columns. One fragment is 16 or 32 of them from `column`, a multiple of as
    many; two fragments are as many even and odd ones, and `column` counts those
    of one fragment.

    ```
    %h = nvtile.read %ring[%p] tile 1 row 128 column 32 warpgroup %w
        : !nvtile.ring<4 x [128, 256]> -> !nvtile.fragment<64x32, bf16>
    ```
  }];
  let arguments = (ins NVTile_RingType:$ring, I32:$position, I32Attr:$tile,
                       I32Attr:$row, I32Attr:$column,
                       I32:$warpgroup);
  let results = (outs Variadic<NVTile_FragmentType>:$fragments);
  let assemblyFormat = [{
    $ring `[` $position `]` `tile` $tile `row` $row `column` $column `warpgroup`
    $warpgroup attr-dict `:` type($ring) `->` type($fragments)
  }];
  let hasVerifier = 1;
}

def NVTile_WriteOp : NVTile_Op<"write"> {
  let summary = "rounded fragments to 64 rows of a tile";
  let description = [{
    The counterpart of `nvtile.read`: results of an epilogue on their way to
    memory, in a stage that these consumers own. A warp may write what it has
    read itself. `nvtile.publish` and `nvtile.store` follow.

    ```
    nvtile.write %g to %ring[%p] tile 1 row 128 column 32 warpgroup %w
        : !nvtile.fragment<64x32, bf16> to !nvtile.ring<4 x [128, 256]>
    ```
  }];
  let arguments = (ins Variadic<NVTile_FragmentType>:$fragments,
                       NVTile_RingType:$ring, I32:$position, I32Attr:$tile,
                       I32Attr:$row, I32Attr:$column, I32:$warpgroup);
  let assemblyFormat = [{
    $fragments `to` $ring `[` $position `]` `tile` $tile `row` $row `column`
    $column `warpgroup` $warpgroup attr-dict `:` type($fragments) `to`
    type($ring)
  }];
  let hasVerifier = 1;
}

def NVTile_PublishOp : NVTile_Op<"publish"> {
  let summary = "what the warpgroup has written to tiles can be stored";
  let arguments = (ins I32:$warpgroup);
  let assemblyFormat = "`warpgroup` $warpgroup attr-dict";
}

def NVTile_StoreOp : NVTile_Op<"store", [AttrSizedOperandSegments]> {
  let summary = "64 rows of a tile go to memory";
  let description = [{
    Rows `row` + 64 * warpgroup on of tile `tile`, 64 columns. Where all of them
    are below `end` the copy engine writes the box at `coordinates`; otherwise,
    and where `ids` says where rows go, threads write 16 bytes each to rows
    below `end` and columns below `limit` of the target. `nvtile.store_wait`
    says when the tile may be written again.

    ```
    nvtile.store %ring[%p] tile 1 from 128 warpgroup %w
        to %map[%column, %c0, %row] or %h[%row, %column] end %end limit %n
        : !nvtile.ring<4 x [128, 256]>, !nvtile.tensor_map<bf16>, memref<?x512xbf16>
    ```
  }];
  let arguments = (ins NVTile_RingType:$ring, I32:$position, I32Attr:$tile,
                       I32Attr:$from, I32:$warpgroup,
                       NVTile_TensorMapType:$map, Variadic<I32>:$coordinates,
                       MemRefRankOf<[BF16, F16], [2, 3]>:$target, I32:$row,
                       I32:$column, I32:$end, I32:$limit,
                       Optional<NVTile_Table>:$ids, Optional<I32>:$slots,
                       DefaultValuedAttr<I32Attr, "1">:$divide);
  let assemblyFormat = [{
    $ring `[` $position `]` `tile` $tile `from` $from `warpgroup` $warpgroup
    `to` $map `[` $coordinates `]` `or` $target `[` $row `,` $column `]` `end`
    $end `limit` $limit (`by` $ids^ `below` $slots `divide` $divide)? attr-dict
    `:` type($ring) `,` type($map) `,` type($target) (`,` type($ids)^)?
  }];
  let hasVerifier = 1;
}

def NVTile_StoreWaitOp : NVTile_Op<"store_wait"> {
  let summary = "all but the last `pending` stores of this thread have read their tile";
  let description = [{
    Before the warpgroup's warps release a stage that was stored from. Only the
    thread that the stores are issued by waits.
  }];
  let arguments = (ins I32Attr:$pending);
  let assemblyFormat = "`pending` $pending attr-dict";
}

//===----------------------------------------------------------------------===//
// Turns
//===----------------------------------------------------------------------===//

def NVTile_AwaitTurnOp : NVTile_Op<"await_turn"> {
  let summary = "wait until the other warpgroup has passed a turn";
  let description = [{
    Where each warpgroup multiplies tiles of its own, one at a time does: this one
    multiplies while the other one stores. It is a condition of correctness too.
    A wait tells phases apart by parity, so it may be at most one phase ahead:
    a warpgroup that awaits a stage must know that the stage's last fill has
    landed, which the other one has seen before it passed the turn.

    `turn` counts both warpgroups' turns from 0; even ones are of warpgroup 0.

    ```
    nvtile.await_turn %turns[%i] warpgroup %w : !nvtile.turns
    // products of turn i are started here
    nvtile.pass_turn %turns warpgroup %w : !nvtile.turns
    ```
  }];
  let arguments = (ins NVTile_TurnsType:$turns, I32:$turn, I32:$warpgroup);
  let assemblyFormat = [{
    $turns `[` $turn `]` `warpgroup` $warpgroup attr-dict `:` type($turns)
  }];
}

def NVTile_PassTurnOp : NVTile_Op<"pass_turn"> {
  let summary = "the next turn may begin: this warp has started its products";
  let arguments = (ins NVTile_TurnsType:$turns, I32:$warpgroup);
  let assemblyFormat = [{
    $turns `warpgroup` $warpgroup attr-dict `:` type($turns)
  }];
}

//===----------------------------------------------------------------------===//
// Fragments
//===----------------------------------------------------------------------===//

def NVTile_ColumnsOp : NVTile_Op<"columns", [Pure]> {
  let summary = "some columns of a fragment";
  let description = [{
    ```
    %g = nvtile.columns %acc from 64 : !nvtile.fragment<64x256> -> !nvtile.fragment<64x64>
    ```
  }];
  let arguments = (ins NVTile_FragmentType:$source, I32Attr:$first);
  let results = (outs NVTile_FragmentType:$result);
  let assemblyFormat = [{
    $source `from` $first attr-dict `:` type($source) `->` type($result)
  }];
  let hasVerifier = 1;
}

def NVTile_MapOp : NVTile_Op<"map",
    [SingleBlockImplicitTerminator<"YieldOp">, RecursiveMemoryEffects]> {
  let summary = "a body on scalars, run for every element";
  let description = [{
    `64x1` and `1xN` operands broadcast; those of 16 bits are extended, and results
    of 16 bits rounded to nearest even, element by element as the body runs. exp, tanh, erf and division are the
    chip's approximations, good to about 1e-6: for results of 16 bits.

    ```
    %a = nvtile.map(%g, %u : !nvtile.fragment<64x64>, !nvtile.fragment<64x64>)
        -> !nvtile.fragment<64x64> {
    ^bb0(%x: f32, %y: f32):
      %z = arith.mulf %x, %y : f32
      nvtile.yield %z : f32
    }
    ```
  }];
  let arguments = (ins Variadic<NVTile_FragmentType>:$fragments);
  let results = (outs Variadic<NVTile_FragmentType>:$results);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `(` $fragments `:` type($fragments) `)` `->` type($results) $body attr-dict
  }];
  let hasVerifier = 1;
}

def NVTile_YieldOp : NVTile_Op<"yield", [Pure, Terminator, HasParent<"MapOp">]> {
  let summary = "the results of a map's body";
  let arguments = (ins Variadic<F32>:$values);
  let builders = [OpBuilder<(ins), [{ }]>];
  let assemblyFormat = "($values^ `:` type($values))? attr-dict";
}

def NVTile_RoundOp : NVTile_Op<"round", [Pure]> {
  let summary = "a fragment rounded to bf16 or f16, to nearest even";
  let description = [{
    ```
    %r = nvtile.round %f : !nvtile.fragment<64x64> -> !nvtile.fragment<64x64, bf16>
    ```
  }];
  let arguments = (ins NVTile_FragmentType:$source);
  let results = (outs NVTile_FragmentType:$result);
  let assemblyFormat = "$source attr-dict `:` type($source) `->` type($result)";
  let hasVerifier = 1;
}

def NVTile_JoinOp : NVTile_Op<"join", [Pure, AllTypesMatch<["left", "right"]>]> {
  let summary = "two fragments side by side";
  let arguments = (ins NVTile_FragmentType:$left, NVTile_FragmentType:$right);
  let results = (outs NVTile_FragmentType:$result);
  let assemblyFormat = [{
    $left `,` $right attr-dict `:` type($left) `->` type($result)
  }];
  let hasVerifier = 1;
}

def NVTile_RowSumOp : NVTile_Op<"row_sum", [Pure]> {
  let summary = "sum of each row's columns";
  let description = [{
    In a fixed tree: a thread's values left to right, then the four threads of a
    row. Columns from `limit` on (a multiple of 8, numbered from the fragment's
    first) are left out.
  }];
  let arguments = (ins NVTile_FragmentType:$source, I32:$limit);
  let results = (outs NVTile_FragmentType:$result);
  let assemblyFormat = [{
    $source `limit` $limit attr-dict `:` type($source) `->` type($result)
  }];
}

def NVTile_LoadFragmentOp : NVTile_Op<"load_fragment",
    [AttrSizedOperandSegments, MemoryEffects<[MemRead]>]> {
  let summary = "read 64 rows of memory as fragments";
  let description = [{
    Row i is the memory's row `row` + i, or the row that `ids` names:
    ids[row + i] / divide, where an id that is not below `slots` is taken as the
    last one that is. A `64xN` fragment reads N columns from `column`, a
    `64x1` fragment column `column` of each row (rows of a vector have one
    column), a `1xN` fragment N columns of row `row` alone. What lies in rows from
    `end` on or columns from `limit` on is unspecified, and not read. Column and
    limit are multiples of 8; where the limit is a constant multiple of N, the
    column has to be one too. Two fragments of N columns are the even and the odd
    ones of 2 N; column and limit are then multiples of 16.

    ```
    %h = nvtile.load_fragment %m[%row, %column] end %end limit %n
        : memref<?x512xbf16> -> !nvtile.fragment<64x64>
    %s = nvtile.load_fragment %gates[%row, %c0] end %end limit %c1
        by %order below %slots divide 1
        : memref<?xf32>, memref<?xi32> -> !nvtile.fragment<64x1>
    ```
  }];
  let arguments = (ins NVTile_Memory:$source, I32:$row, I32:$column, I32:$end,
                       I32:$limit, Optional<NVTile_Table>:$ids,
                       Optional<I32>:$slots,
                       DefaultValuedAttr<I32Attr, "1">:$divide);
  let results = (outs Variadic<NVTile_FragmentType>:$fragments);
  let assemblyFormat = [{
    $source `[` $row `,` $column `]` `end` $end `limit` $limit
    (`by` $ids^ `below` $slots `divide` $divide)? attr-dict `:` type($source)
    (`,` type($ids)^)? `->` type($fragments)
  }];
  let hasVerifier = 1;
}

def NVTile_StoreFragmentOp : NVTile_Op<"store_fragment",
    [AttrSizedOperandSegments]> {
  let summary = "write a fragment from registers";
  let description = [{
    The counterpart of `nvtile.load_fragment`; rows from `end` on and columns
    from `limit` on are not written. For f32 memory and row sums; narrower rows
    are faster through `nvtile.stage_store`.
  }];
  let arguments = (ins NVTile_FragmentType:$fragment, NVTile_Memory:$target,
                       I32:$row, I32:$column, I32:$end, I32:$limit,
                       Optional<NVTile_Table>:$ids, Optional<I32>:$slots,
                       DefaultValuedAttr<I32Attr, "1">:$divide);
  let assemblyFormat = [{
    $fragment `to` $target `[` $row `,` $column `]` `end` $end `limit` $limit
    (`by` $ids^ `below` $slots `divide` $divide)? attr-dict `:` type($fragment) `,`
    type($target) (`,` type($ids)^)?
  }];
}

def NVTile_StageStoreOp : NVTile_Op<"stage_store", [AttrSizedOperandSegments]> {
  let summary = "write rounded fragments of 64 columns through a staging buffer";
  let description = [{
    One fragment of 64 columns, or two of 32: the even columns and the odd ones.
    The stores are those of `nvtile.store`.

    ```
    nvtile.stage_store %f through %staging[0] warpgroup %w
        to %map[%column, %c0, %row] or %h[%row, %column] end %end limit %n
        : !nvtile.fragment<64x64, bf16> through !nvtile.staging<2>, !nvtile.tensor_map<bf16>, memref<?x512xbf16>
    ```
  }];
  let arguments = (ins Variadic<NVTile_FragmentType>:$fragments,
                       NVTile_StagingType:$staging,
                       I32Attr:$buffer, I32:$warpgroup,
                       NVTile_TensorMapType:$map, Variadic<I32>:$coordinates,
                       MemRefRankOf<[BF16, F16], [2, 3]>:$target, I32:$row,
                       I32:$column, I32:$end, I32:$limit,
                       Optional<NVTile_Table>:$ids, Optional<I32>:$slots,
                       DefaultValuedAttr<I32Attr, "1">:$divide);
  let assemblyFormat = [{
    $fragments `through` $staging `[` $buffer `]` `warpgroup` $warpgroup
    `to` $map `[` $coordinates `]` `or` $target `[` $row `,` $column `]` `end`
    $end `limit` $limit (`by` $ids^ `below` $slots `divide` $divide)? attr-dict `:`
    type($fragments) `through` type($staging) `,` type($map) `,` type($target)
    (`,` type($ids)^)?
  }];
  let hasVerifier = 1;
}

def NVTile_StageFlushOp : NVTile_Op<"stage_flush"> {
  let summary = "wait for all stores that went through staging";
  let assemblyFormat = "attr-dict";
}

#endif // MOE_DIALECT_NVTILE_IR_NVTILEOPS_TD
