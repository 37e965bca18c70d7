// The down kernel of a gated MLP by hand: rows of A (grouped) times W2, both
// by the copy engine; four stages, and half a tile of staging.
// d = 4096, n = 1024, E = 128.
// RUN: moe-opt %s --convert-nvtile-to-nvvm | FileCheck %s

!ring = !nvtile.ring<4 x [128, 256]>
!map = !nvtile.tensor_map<bf16>
!acc = !nvtile.fragment<64x256>
!chunk = !nvtile.fragment<64x64>
!half = !nvtile.fragment<64x64, bf16>
!staging = !nvtile.staging<2>

// CHECK-LABEL: llvm.func @down
// CHECK-SAME: nvtile.block = 384 : i32, nvtile.shared_memory = 230400 : i32
// CHECK: nvvm.elect.sync
// CHECK-COUNT-2: nvvm.cp.async.bulk.tensor.shared.cluster.global
// CHECK-COUNT-4: nvvm.wgmma.mma_async
// CHECK: nvvm.cp.async.bulk.wait_group 1 {read}
gpu.module @nvtile_down [#nvvm.target<chip = "sm_90a", features = "+ptx80", O = 3>] {
  gpu.func @down(%amap: !map, %w: !map, %ymap: !map, %y: memref<?x4096xbf16>,
                 %table: memref<?xi32>) kernel {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %tiles = arith.constant 16 : i32    // 4096 / 256
    %steps = arith.constant 16 : i32    // 1024 / 64
    %c64 = arith.constant 64 : i32
    %c128 = arith.constant 128 : i32
    %c256 = arith.constant 256 : i32
    %n = arith.constant 4096 : i32
    %block = gpu.block_id x
    %bid = arith.index_cast %block : index to i32
    %grid = gpu.grid_dim x
    %blocks = arith.index_cast %grid : index to i32
    %ring = nvtile.make_ring fills 1 releases 8 : !ring
    %staging = nvtile.make_staging : !staging
    %rowBlocks = nvtile.work_count %table : memref<?xi32>
    %work = arith.muli %rowBlocks, %tiles : i32

    nvtile.specialize produce 40 {
      nvtile.elect {
        scf.for %t = %bid to %work step %blocks iter_args(%p0 = %c0) -> (i32) : i32 {
          %i = arith.divui %t, %tiles : i32
          %first, %last, %expert = nvtile.work_item %table[%i] of 128 : memref<?xi32>
          %tile = arith.remui %t, %tiles : i32
          %column = arith.muli %tile, %c256 : i32
          %p1 = scf.for %s = %c0 to %steps step %c1 iter_args(%p = %p0) -> (i32) : i32 {
            %k = arith.muli %s, %c64 : i32
            nvtile.acquire %ring[%p] : !ring
            nvtile.expect %ring[%p] 49152 bytes : !ring
            nvtile.load %amap[%k, %first] to %ring[%p] tile 0 row 0 : !map, !ring
            nvtile.load %w[%k, %column, %expert] to %ring[%p] tile 1 row 0 : !map, !ring
            %next = arith.addi %p, %c1 : i32
            scf.yield %next : i32
          }
          scf.yield %p1 : i32
        }
      }
    } consume 232 {
    ^bb0(%wg: i32):
      %half = arith.muli %wg, %c64 : i32
      %zero = nvtile.zero : !acc
      scf.for %t = %bid to %work step %blocks iter_args(%p0 = %c0) -> (i32) : i32 {
        %i = arith.divui %t, %tiles : i32
        %first, %last, %expert = nvtile.work_item %table[%i] of 128 : memref<?xi32>
        %tile = arith.remui %t, %tiles : i32
        %column = arith.muli %tile, %c256 : i32
        %row = arith.addi %first, %half : i32
        %sum:2 = scf.for %s = %c0 to %steps step %c1
            iter_args(%p = %p0, %acc = %zero) -> (i32, !acc) : i32 {
          nvtile.await %ring[%p] : !ring
          %m = nvtile.mma %ring[%p], %acc lhs 0 rhs 1 warpgroup %wg bf16 : !ring, !acc
          %r = nvtile.mma_wait %m pending 1 : !acc
          %started = arith.cmpi ne, %s, %c0 : i32
          scf.if %started {
            %before = arith.subi %p, %c1 : i32
            nvtile.release %ring[%before] : !ring
          }
          %next = arith.addi %p, %c1 : i32
          scf.yield %next, %r : i32, !acc
        }
        %y0 = nvtile.mma_wait %sum#1 pending 0 : !acc
        %before = arith.subi %sum#0, %c1 : i32
        nvtile.release %ring[%before] : !ring
        %column1 = arith.addi %column, %c64 : i32
        %column2 = arith.addi %column, %c128 : i32
        %column3 = arith.addi %column1, %c128 : i32
        %f0 = nvtile.columns %y0 from 0 : !acc -> !chunk
        %f0h = nvtile.round %f0 : !chunk -> !half
        nvtile.stage_store %f0h through %staging[0] warpgroup %wg to %ymap[%column, %c0, %row]
            or %y[%row, %column] end %last limit %n : !half through !staging, !map, memref<?x4096xbf16>
        %f1 = nvtile.columns %y0 from 64 : !acc -> !chunk
        %f1h = nvtile.round %f1 : !chunk -> !half
        nvtile.stage_store %f1h through %staging[1] warpgroup %wg to %ymap[%column1, %c0, %row]
            or %y[%row, %column1] end %last limit %n : !half through !staging, !map, memref<?x4096xbf16>
        %f2 = nvtile.columns %y0 from 128 : !acc -> !chunk
        %f2h = nvtile.round %f2 : !chunk -> !half
        nvtile.stage_store %f2h through %staging[0] warpgroup %wg to %ymap[%column2, %c0, %row]
            or %y[%row, %column2] end %last limit %n : !half through !staging, !map, memref<?x4096xbf16>
        %f3 = nvtile.columns %y0 from 192 : !acc -> !chunk
        %f3h = nvtile.round %f3 : !chunk -> !half
        nvtile.stage_store %f3h through %staging[1] warpgroup %wg to %ymap[%column3, %c0, %row]
            or %y[%row, %column3] end %last limit %n : !half through !staging, !map, memref<?x4096xbf16>
        scf.yield %sum#0 : i32
      }
      nvtile.stage_flush
    }
    gpu.return
  }
}
