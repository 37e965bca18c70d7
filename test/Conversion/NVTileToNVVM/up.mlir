// The up kernel of a gated MLP by hand: rows of X gathered by token, times the
// gate and up halves of W1 side by side; H and A = silu(gate) * up are stored.
// d = 768, n = 256, E = 128, K = 8.
// RUN: moe-opt %s --convert-nvtile-to-nvvm | FileCheck %s

!ring = !nvtile.ring<4 x [128, 256]>
!map = !nvtile.tensor_map<bf16>
!acc = !nvtile.fragment<64x256>
!chunk = !nvtile.fragment<64x64>
!half = !nvtile.fragment<64x64, bf16>

// CHECK-LABEL: llvm.func @up
// CHECK-SAME: nvtile.block = 384 : i32, nvtile.shared_memory = 230400 : i32
// CHECK: nvvm.setmaxregister decrease 56
// CHECK: nvvm.cp.async.shared.global {{.*}}, 16, cache = cg
// CHECK: nvvm.setmaxregister increase 224
// CHECK-COUNT-4: nvvm.wgmma.mma_async
// CHECK: nvvm.stmatrix
gpu.module @nvtile_up [#nvvm.target<chip = "sm_90a", features = "+ptx80", O = 3>] {
  gpu.func @up(%w: !map, %hmap: !map, %amap: !map, %x: memref<?x768xbf16>,
               %order: memref<?xi32>, %h: memref<?x512xbf16>,
               %a: memref<?x256xbf16>, %table: memref<?xi32>) kernel {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %c2 = arith.constant 2 : i32
    %tiles = arith.constant 2 : i32     // 256 / 128 pairs of columns
    %steps = arith.constant 12 : i32    // 768 / 64
    %c64 = arith.constant 64 : i32
    %c128 = arith.constant 128 : i32
    %n = arith.constant 256 : i32
    %n2 = arith.constant 512 : i32
    %block = gpu.block_id x
    %bid = arith.index_cast %block : index to i32
    %grid = gpu.grid_dim x
    %blocks = arith.index_cast %grid : index to i32
    %ring = nvtile.make_ring fills 129 releases 8 : !ring
    %staging = nvtile.make_staging : !nvtile.staging<2>
    %rowBlocks = nvtile.work_count %table : memref<?xi32>
    %slots = nvtile.work_slots %table : memref<?xi32>
    %work = arith.muli %rowBlocks, %tiles : i32

    nvtile.specialize produce 56 {
      %last = arith.subi %rowBlocks, %c1 : i32
      %i0 = arith.divui %bid, %tiles : i32
      %j0 = arith.minsi %i0, %last : i32
      %f0, %e0, %x0 = nvtile.work_item %table[%j0] of 128 : memref<?xi32>
      %ids0 = nvtile.row_ids %order[%f0 to %e0] below %slots divide 8 : memref<?xi32> -> vector<8xi32>
      %end:5 = scf.for %t = %bid to %work step %blocks
          iter_args(%p0 = %c0, %first = %f0, %last0 = %e0, %expert = %x0, %ids = %ids0)
          -> (i32, i32, i32, i32, vector<8xi32>) : i32 {
        // The next tile's rows, while this one's are copied.
        %t1 = arith.addi %t, %blocks : i32
        %i1 = arith.divui %t1, %tiles : i32
        %j1 = arith.minsi %i1, %last : i32
        %f1, %e1, %x1 = nvtile.work_item %table[%j1] of 128 : memref<?xi32>
        %ids1 = nvtile.row_ids %order[%f1 to %e1] below %slots divide 8 : memref<?xi32> -> vector<8xi32>
        %tile = arith.remui %t, %tiles : i32
        %column = arith.muli %tile, %c128 : i32
        %gate = arith.muli %expert, %c2 : i32
        %up = arith.addi %gate, %c1 : i32
        %p1 = scf.for %s = %c0 to %steps step %c1 iter_args(%p = %p0) -> (i32) : i32 {
          %k = arith.muli %s, %c64 : i32
          nvtile.acquire %ring[%p] : !ring
          nvtile.elect {
            nvtile.expect %ring[%p] 32768 bytes : !ring
            nvtile.load %w[%k, %column, %gate] to %ring[%p] tile 1 row 0 : !map, !ring
            nvtile.load %w[%k, %column, %up] to %ring[%p] tile 1 row 128 : !map, !ring
          }
          nvtile.gather %x[%ids, %k] to %ring[%p] tile 0 : memref<?x768xbf16>, vector<8xi32>, !ring
          nvtile.commit %ring[%p] : !ring
          %next = arith.addi %p, %c1 : i32
          scf.yield %next : i32
        }
        scf.yield %p1, %f1, %e1, %x1, %ids1 : i32, i32, i32, i32, vector<8xi32>
      }
      nvtile.drain
    } consume 224 {
    ^bb0(%wg: i32):
      %half = arith.muli %wg, %c64 : i32
      %zero = nvtile.zero : !acc
      scf.for %t = %bid to %work step %blocks iter_args(%p0 = %c0) -> (i32) : i32 {
        %i = arith.divui %t, %tiles : i32
        %first, %last, %expert = nvtile.work_item %table[%i] of 128 : memref<?xi32>
        %tile = arith.remui %t, %tiles : i32
        %column = arith.muli %tile, %c128 : i32
        %row = arith.addi %first, %half : i32
        %sum:2 = scf.for %s = %c0 to %steps step %c1
            iter_args(%p = %p0, %acc = %zero) -> (i32, !acc) : i32 {
          nvtile.await %ring[%p] gathered : !ring
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
        %h0 = nvtile.mma_wait %sum#1 pending 0 : !acc
        %before = arith.subi %sum#0, %c1 : i32
        nvtile.release %ring[%before] : !ring
        %up0 = arith.addi %column, %n : i32
        %column1 = arith.addi %column, %c64 : i32
        %up1 = arith.addi %up0, %c64 : i32
        %g0 = nvtile.columns %h0 from 0 : !acc -> !chunk
        %g1 = nvtile.columns %h0 from 64 : !acc -> !chunk
        %u0 = nvtile.columns %h0 from 128 : !acc -> !chunk
        %u1 = nvtile.columns %h0 from 192 : !acc -> !chunk
        %g0h = nvtile.round %g0 : !chunk -> !half
        nvtile.stage_store %g0h through %staging[0] warpgroup %wg to %hmap[%column, %c0, %row]
            or %h[%row, %column] end %last limit %n : !half through !nvtile.staging<2>, !map, memref<?x512xbf16>
        %u0h = nvtile.round %u0 : !chunk -> !half
        nvtile.stage_store %u0h through %staging[1] warpgroup %wg to %hmap[%column, %c1, %row]
            or %h[%row, %up0] end %last limit %n2 : !half through !nvtile.staging<2>, !map, memref<?x512xbf16>
        %a0 = nvtile.map(%g0, %u0 : !chunk, !chunk) -> !chunk {
        ^bb0(%g: f32, %u: f32):
          %one = arith.constant 1.0 : f32
          %m = arith.negf %g : f32
          %e = math.exp %m : f32
          %d = arith.addf %e, %one : f32
          %q = arith.divf %g, %d : f32
          %y = arith.mulf %q, %u : f32
          nvtile.yield %y : f32
        }
        %a0h = nvtile.round %a0 : !chunk -> !half
        nvtile.stage_store %a0h through %staging[0] warpgroup %wg to %amap[%column, %c0, %row]
            or %a[%row, %column] end %last limit %n : !half through !nvtile.staging<2>, !map, memref<?x256xbf16>
        %g1h = nvtile.round %g1 : !chunk -> !half
        nvtile.stage_store %g1h through %staging[1] warpgroup %wg to %hmap[%column1, %c0, %row]
            or %h[%row, %column1] end %last limit %n : !half through !nvtile.staging<2>, !map, memref<?x512xbf16>
        %u1h = nvtile.round %u1 : !chunk -> !half
        nvtile.stage_store %u1h through %staging[0] warpgroup %wg to %hmap[%column1, %c1, %row]
            or %h[%row, %up1] end %last limit %n2 : !half through !nvtile.staging<2>, !map, memref<?x512xbf16>
        %a1 = nvtile.map(%g1, %u1 : !chunk, !chunk) -> !chunk {
        ^bb0(%g: f32, %u: f32):
          %one = arith.constant 1.0 : f32
          %m = arith.negf %g : f32
          %e = math.exp %m : f32
          %d = arith.addf %e, %one : f32
          %q = arith.divf %g, %d : f32
          %y = arith.mulf %q, %u : f32
          nvtile.yield %y : f32
        }
        %a1h = nvtile.round %a1 : !chunk -> !half
        nvtile.stage_store %a1h through %staging[1] warpgroup %wg to %amap[%column1, %c0, %row]
            or %a[%row, %column1] end %last limit %n : !half through !nvtile.staging<2>, !map, memref<?x256xbf16>
        scf.yield %sum#0 : i32
      }
      nvtile.stage_flush
    }
    gpu.return
  }
}
