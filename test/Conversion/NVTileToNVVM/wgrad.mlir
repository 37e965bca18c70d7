// The gradient of W1 by hand: for each expert the sum over its rows of dH
// (grouped, by the copy engine) times X (gathered by token). Both operands are
// MN-major; rows past an expert's end are zero on either side, so that nothing
// of the next expert gets in. Experts come largest first, blocks go to and fro.
// 2n = 2048, d = 4096, E = 128, K = 8.
// RUN: moe-opt %s --convert-nvtile-to-nvvm | FileCheck %s

!ring = !nvtile.ring<4 x [128, 256]>
!map = !nvtile.tensor_map<bf16>
!acc = !nvtile.fragment<64x256>
!chunk = !nvtile.fragment<64x64>
!half = !nvtile.fragment<64x64, bf16>
!staging = !nvtile.staging<2>
!ids = vector<4xi32>

// CHECK-LABEL: llvm.func @wgrad
// CHECK: nvvm.cp.async.shared.global {{.*}}, 16, cache = cg, %{{.*}} : !llvm.ptr<3>
// CHECK: nvvm.wgmma.mma_async {{.*}}, A[<bf16>, <one>, <col>], B[<bf16>, <one>, <row>]
gpu.module @nvtile_wgrad [#nvvm.target<chip = "sm_90a", features = "+ptx80", O = 3>] {
  gpu.func @wgrad(%dh: !map, %wmap: !map, %x: memref<?x4096xbf16>,
                  %order: memref<?xi32>, %dw: memref<128x2048x4096xbf16>,
                  %table: memref<?xi32>) kernel {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %c63 = arith.constant 63 : i32
    %c64 = arith.constant 64 : i32
    %c128 = arith.constant 128 : i32
    %c192 = arith.constant 192 : i32
    %c256 = arith.constant 256 : i32
    %rowTiles = arith.constant 16 : i32       // 2048 / 128
    %each = arith.constant 256 : i32          // tiles of an expert: 16 * 16
    %work = arith.constant 32768 : i32        // 128 * 256
    %n = arith.constant 4096 : i32
    %far = arith.constant 1073741824 : i32    // 2^30, see nvtile.tensor_map
    %block = gpu.block_id x
    %bid = arith.index_cast %block : index to i32
    %grid = gpu.grid_dim x
    %blocks = arith.index_cast %grid : index to i32
    %ring = nvtile.make_ring fills 129 releases 8 : !ring
    %staging = nvtile.make_staging : !staging
    %up = arith.subi %blocks, %c1 : i32
    %back = arith.subi %up, %bid : i32
    %rounds = arith.addi %work, %up : i32
    %turns = arith.divui %rounds, %blocks : i32

    nvtile.specialize produce 56 {
      %end = scf.for %turn = %c0 to %turns step %c1 iter_args(%p0 = %c0) -> (i32) : i32 {
        %odd = arith.andi %turn, %c1 : i32
        %isOdd = arith.cmpi ne, %odd, %c0 : i32
        %mine = arith.select %isOdd, %back, %bid : i32
        %start = arith.muli %turn, %blocks : i32
        %t = arith.addi %start, %mine : i32
        %some = arith.cmpi slt, %t, %work : i32
        %p1 = scf.if %some -> (i32) {
          %i = arith.divui %t, %each : i32
          %w = arith.remui %t, %each : i32
          %first, %last, %expert = nvtile.work_item experts %table[%i] of 128 : memref<?xi32>
          %tn = arith.divui %w, %rowTiles : i32
          %tm = arith.remui %w, %rowTiles : i32
          %m = arith.muli %tm, %c128 : i32
          %m1 = arith.addi %m, %c64 : i32
          %col = arith.muli %tn, %c256 : i32
          %size = arith.subi %last, %first : i32
          %more = arith.addi %size, %c63 : i32
          %whole = arith.divui %more, %c64 : i32
          %steps = arith.maxsi %whole, %c1 : i32
          %offset = arith.subi %far, %size : i32
          %first1 = arith.addi %first, %c64 : i32
          %ids0 = nvtile.row_ids %order[%first to %last] divide 8 : memref<?xi32> -> !ids
          %ids1 = nvtile.row_ids %order[%first1 to %last] divide 8 : memref<?xi32> -> !ids
          %r:3 = scf.for %s = %c0 to %steps step %c1
              iter_args(%p = %p0, %ids = %ids0, %soon = %ids1) -> (i32, !ids, !ids) : i32 {
            %k = arith.muli %s, %c64 : i32
            %ahead = arith.addi %k, %c128 : i32
            %row2 = arith.addi %first, %ahead : i32
            %ids2 = nvtile.row_ids %order[%row2 to %last] divide 8 : memref<?xi32> -> !ids
            %left = arith.subi %size, %k : i32
            nvtile.acquire %ring[%p] : !ring
            nvtile.elect {
              nvtile.expect %ring[%p] 16384 bytes : !ring
              %y = arith.addi %offset, %k : i32
              nvtile.load %dh[%m, %y, %last, %far] to %ring[%p] tile 0 row 0 : !map, !ring
              nvtile.load %dh[%m1, %y, %last, %far] to %ring[%p] tile 0 row 64 : !map, !ring
            }
            nvtile.gather %x[%ids, %col] count %left to %ring[%p] tile 1 : memref<?x4096xbf16>, !ids, !ring
            nvtile.commit %ring[%p] : !ring
            %next = arith.addi %p, %c1 : i32
            scf.yield %next, %soon, %ids2 : i32, !ids, !ids
          }
          scf.yield %r#0 : i32
        } else {
          scf.yield %p0 : i32
        }
        scf.yield %p1 : i32
      }
      nvtile.drain
    } consume 224 {
    ^bb0(%wg: i32):
      %half = arith.muli %wg, %c64 : i32
      %zero = nvtile.zero : !acc
      scf.for %turn = %c0 to %turns step %c1 iter_args(%p0 = %c0) -> (i32) : i32 {
        %odd = arith.andi %turn, %c1 : i32
        %isOdd = arith.cmpi ne, %odd, %c0 : i32
        %mine = arith.select %isOdd, %back, %bid : i32
        %start = arith.muli %turn, %blocks : i32
        %t = arith.addi %start, %mine : i32
        %some = arith.cmpi slt, %t, %work : i32
        %p1 = scf.if %some -> (i32) {
          %i = arith.divui %t, %each : i32
          %w = arith.remui %t, %each : i32
          %first, %last, %expert = nvtile.work_item experts %table[%i] of 128 : memref<?xi32>
          %tn = arith.divui %w, %rowTiles : i32
          %tm = arith.remui %w, %rowTiles : i32
          %m = arith.muli %tm, %c128 : i32
          %row = arith.addi %m, %half : i32
          %col = arith.muli %tn, %c256 : i32
          %size = arith.subi %last, %first : i32
          %more = arith.addi %size, %c63 : i32
          %whole = arith.divui %more, %c64 : i32
          %steps = arith.maxsi %whole, %c1 : i32
          %sum:2 = scf.for %s = %c0 to %steps step %c1
              iter_args(%p = %p0, %acc = %zero) -> (i32, !acc) : i32 {
            nvtile.await %ring[%p] gathered : !ring
            %mm = nvtile.mma %ring[%p], %acc lhs 0 mn rhs 1 mn warpgroup %wg bf16 : !ring, !acc
            %r = nvtile.mma_wait %mm pending 1 : !acc
            %started = arith.cmpi ne, %s, %c0 : i32
            scf.if %started {
              %before = arith.subi %p, %c1 : i32
              nvtile.release %ring[%before] : !ring
            }
            %next = arith.addi %p, %c1 : i32
            scf.yield %next, %r : i32, !acc
          }
          %y = nvtile.mma_wait %sum#1 pending 0 : !acc
          %before = arith.subi %sum#0, %c1 : i32
          nvtile.release %ring[%before] : !ring
          %col1 = arith.addi %col, %c64 : i32
          %col2 = arith.addi %col, %c128 : i32
          %col3 = arith.addi %col, %c192 : i32
          %f0 = nvtile.columns %y from 0 : !acc -> !chunk
          %f0h = nvtile.round %f0 : !chunk -> !half
          nvtile.stage_store %f0h through %staging[0] warpgroup %wg to %wmap[%col, %row, %expert]
              or %dw[%c0, %col] end %c64 limit %n : !half through !staging, !map, memref<128x2048x4096xbf16>
          %f1 = nvtile.columns %y from 64 : !acc -> !chunk
          %f1h = nvtile.round %f1 : !chunk -> !half
          nvtile.stage_store %f1h through %staging[1] warpgroup %wg to %wmap[%col1, %row, %expert]
              or %dw[%c0, %col1] end %c64 limit %n : !half through !staging, !map, memref<128x2048x4096xbf16>
          %f2 = nvtile.columns %y from 128 : !acc -> !chunk
          %f2h = nvtile.round %f2 : !chunk -> !half
          nvtile.stage_store %f2h through %staging[0] warpgroup %wg to %wmap[%col2, %row, %expert]
              or %dw[%c0, %col2] end %c64 limit %n : !half through !staging, !map, memref<128x2048x4096xbf16>
          %f3 = nvtile.columns %y from 192 : !acc -> !chunk
          %f3h = nvtile.round %f3 : !chunk -> !half
          nvtile.stage_store %f3h through %staging[1] warpgroup %wg to %wmap[%col3, %row, %expert]
              or %dw[%c0, %col3] end %c64 limit %n : !half through !staging, !map, memref<128x2048x4096xbf16>
          scf.yield %sum#0 : i32
        } else {
          scf.yield %p0 : i32
        }
        scf.yield %p1 : i32
      }
      nvtile.stage_flush
    }
    gpu.return
  }
}
