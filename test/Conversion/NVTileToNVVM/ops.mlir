// What each op that the kernels by hand do not show becomes.
// RUN: moe-opt %s --convert-nvtile-to-nvvm --verify-roundtrip | FileCheck %s

!ring = !nvtile.ring<4 x [128, 256]>
!acc = !nvtile.fragment<64x256>
!part = !nvtile.fragment<64x32>
!half = !nvtile.fragment<64x32, bf16>
!quarter = !nvtile.fragment<64x16, bf16>
!row = !nvtile.fragment<64x1>
!column = !nvtile.fragment<1x32>

gpu.module @m {
  // A position's stage and phase; a stage that was never filled is free.
  // CHECK-LABEL: llvm.func @barriers
  // CHECK: nvvm.mbarrier.init
  // CHECK: nvvm.barrier0
  // CHECK: nvvm.shfl.sync {{ ?}}idx
  // CHECK: nvvm.setmaxregister decrease 40
  // CHECK: arith.remui %{{.*}}, %c4_i32
  // CHECK: arith.xori
  // CHECK: nvvm.mbarrier.try_wait.parity
  // CHECK: nvvm.elect.sync
  // CHECK: nvvm.mbarrier.arrive.expect_tx
  // CHECK: nvvm.cp.async.bulk.tensor.shared.cluster.global {{.*}} box[
  // CHECK: nvvm.setmaxregister increase 232
  // CHECK: nvvm.mbarrier.try_wait.parity
  // CHECK: nvvm.mbarrier.arrive %
  gpu.func @barriers(%map: !nvtile.tensor_map<bf16>, %p: i32) kernel {
    %ring = nvtile.make_ring fills 1 releases 8 : !ring
    nvtile.specialize produce 40 {
      nvtile.acquire %ring[%p] : !ring
      nvtile.elect {
        nvtile.expect %ring[%p] 16384 bytes : !ring
        nvtile.load %map[%p, %p] to %ring[%p] tile 0 row 0 : !nvtile.tensor_map<bf16>, !ring
      }
    } consume 232 {
    ^bb0(%w: i32):
      nvtile.await %ring[%p] : !ring
      nvtile.release %ring[%p] : !ring
    }
    gpu.return
  }

  // Warpgroup w's turn i waits for the parity of i / 2, its first one for none
  // if w is 0; four warps pass it on to the other's barrier.
  // CHECK-LABEL: llvm.func @turns
  // CHECK-SAME: nvtile.shared_memory = 16 : i32
  // CHECK-COUNT-2: nvvm.mbarrier.init %{{.*}}, %c4_i32
  // CHECK: nvvm.setmaxregister increase
  // CHECK: %[[MINE:.*]] = arith.shrui %[[TURN:.*]], %
  // CHECK: %[[ODD:.*]] = arith.andi %[[MINE]], %
  // CHECK: %[[OTHER:.*]] = arith.xori %[[W:.*]], %
  // CHECK: %[[PARITY:.*]] = arith.xori %[[ODD]], %[[OTHER]]
  // CHECK: nvvm.mbarrier.try_wait.parity %{{.*}}, %[[PARITY]]
  // CHECK: %[[NEXT:.*]] = arith.xori %[[W]], %
  // CHECK: arith.muli %[[NEXT]], %
  // CHECK: nvvm.mbarrier.arrive %
  gpu.func @turns(%i: i32) kernel {
    %turns = nvtile.make_turns : !nvtile.turns
    nvtile.specialize produce 40 {
    } consume 232 {
    ^bb0(%w: i32):
      nvtile.await_turn %turns[%i] warpgroup %w : !nvtile.turns
      nvtile.pass_turn %turns warpgroup %w : !nvtile.turns
    }
    gpu.return
  }

  // A product of tiles of two rings: the rows of a stage of 8 KiB are all of
  // this warpgroup, the weights lie at their own position.
  // CHECK-LABEL: llvm.func @two_rings
  // CHECK-SAME: (%[[P:[a-z0-9]+]]: i32, %[[Q:[a-z0-9]+]]: i32,
  // CHECK: arith.remui %[[P]], %c8_i32
  // CHECK: arith.muli %{{.*}}, %c8192_i32
  // CHECK: arith.remui %[[Q]], %c4_i32
  // CHECK: arith.muli %{{.*}}, %c32768_i32
  // CHECK-COUNT-4: nvvm.wgmma.mma_async
  gpu.func @two_rings(%p: i32, %q: i32, %o: memref<?x256xf32>) kernel {
    %rows = nvtile.make_ring fills 1 releases 4 : !nvtile.ring<8 x [64]>
    %weights = nvtile.make_ring fills 1 releases 8 : !nvtile.ring<4 x [256]>
    %zero = nvtile.zero : !acc
    %s = nvtile.mma %rows[%p], %zero lhs 0 rhs 0 of %weights[%q] bf16 : !nvtile.ring<8 x [64]> of !nvtile.ring<4 x [256]>, !acc
    %r = nvtile.mma_wait %s pending 0 : !acc
    nvtile.store_fragment %r to %o[%p, %q] end %p limit %q : !acc, memref<?x256xf32>
    gpu.return
  }

  // The hardware signals a thread's copies when they have landed; who awaits them
  // makes them visible to the products.
  // CHECK-LABEL: llvm.func @gathered
  // CHECK: arith.minsi
  // CHECK: llvm.load {{.*}} -> i32
  // CHECK: arith.divui
  // CHECK-COUNT-8: nvvm.cp.async.shared.global
  // CHECK-NOT: nvvm.cp.async.wait.group
  // CHECK: nvvm.cp.async.mbarrier.arrive %{{.*}} {noinc = true}
  // CHECK-NEXT: nvvm.cp.async.commit.group
  // CHECK-NEXT: nvvm.cp.async.wait.group 0
  // CHECK: nvvm.mbarrier.try_wait
  // CHECK: nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}
  gpu.func @gathered(%x: memref<?x128xbf16>, %order: memref<?xi32>, %p: i32) kernel {
    %ring = nvtile.make_ring fills 129 releases 8 : !ring
    %slots = nvtile.work_slots %order : memref<?xi32>
    %ids = nvtile.row_ids %order[%p to %p] below %slots divide 2 : memref<?xi32> -> vector<8xi32>
    nvtile.gather %x[%ids, %p] to %ring[%p] tile 0 : memref<?x128xbf16>, vector<8xi32>, !ring
    nvtile.commit %ring[%p] : !ring
    nvtile.drain
    nvtile.await %ring[%p] gathered : !ring
    gpu.return
  }

  // 8 + 8 + 2 + 8 values a thread; each row of four threads is summed by shuffles.
  // CHECK-LABEL: llvm.func @fragments
  // CHECK: nvvm.ldmatrix
  // CHECK: nvvm.ldmatrix
  // CHECK: nvvm.bar.warp.sync
  // CHECK: llvm.load {{.*}} -> vector<2xf32>
  // CHECK: llvm.load {{.*}} -> f32
  // CHECK: arith.mulf {{.*}} fastmath<contract>
  // CHECK: llvm.call_intrinsic "llvm.nvvm.ex2.approx.ftz.f32"
  // CHECK: nvvm.rcp.approx.ftz.f
  // Two elements are rounded at once, in the region and after it.
  // CHECK: %[[ROUNDED:.*]] = nvvm.convert.f32x2.to.bf16x2
  // CHECK: llvm.extractelement %[[ROUNDED]]
  // CHECK: llvm.extractelement %[[ROUNDED]]
  // CHECK: nvvm.convert.f32x2.to.bf16x2
  // CHECK-NOT: arith.truncf
  // CHECK-COUNT-4: nvvm.shfl.sync
  // CHECK: llvm.store {{.*}} : f32, !llvm.ptr<1>
  // CHECK: llvm.store {{.*}} : vector<2xf32>, !llvm.ptr<1>
  gpu.func @fragments(%bias: memref<8x64xf32>, %gates: memref<?xf32>, %o: memref<?x64xf32>,
                      %s: memref<?x1xf32>, %p: i32) kernel {
    %c0 = arith.constant 0 : i32
    %c1 = arith.constant 1 : i32
    %c64 = arith.constant 64 : i32
    %ring = nvtile.make_ring fills 1 releases 8 : !ring
    %zero = nvtile.zero : !acc
    %a = nvtile.columns %zero from 32 : !acc -> !part
    %h = nvtile.read %ring[%p] tile 1 row 128 column 32 warpgroup %c0 : !ring -> !half
    %b = nvtile.load_fragment %bias[%c1, %c0] end %p limit %c64 : memref<8x64xf32> -> !column
    %g = nvtile.load_fragment %gates[%p, %c0] end %p limit %c1 : memref<?xf32> -> !row
    %r:2 = nvtile.map(%a, %h, %b, %g : !part, !half, !column, !row) -> !part, !half {
    ^bb0(%w: f32, %x: f32, %y: f32, %z: f32):
      %0 = arith.mulf %x, %z : f32
      %1 = math.exp %0 : f32
      %2 = arith.divf %y, %1 : f32
      %stored = arith.truncf %2 : f32 to bf16
      %3 = arith.extf %stored : bf16 to f32
      %4 = arith.addf %w, %3 : f32
      nvtile.yield %4, %2 : f32, f32
    }
    %sum = nvtile.row_sum %r#0 limit %c64 : !part -> !row
    nvtile.store_fragment %sum to %s[%p, %c0] end %p limit %c1 : !row, memref<?x1xf32>
    %j = nvtile.join %r#0, %r#0 : !part -> !nvtile.fragment<64x64>
    nvtile.store_fragment %j to %o[%p, %c0] end %p limit %c64 : !nvtile.fragment<64x64>, memref<?x64xf32>
    gpu.return
  }

  // Two fragments whose columns alternate are words of pairs; rows that ids name
  // are written by threads, and no id passes the slots.
  // CHECK-LABEL: llvm.func @tiles
  // CHECK: llvm.load {{.*}} : !llvm.ptr<3> -> vector<2xi32>
  // CHECK: nvvm.bar.warp.sync
  // CHECK: llvm.store {{.*}} : vector<2xi32>, !llvm.ptr<3>
  // CHECK: nvvm.stmatrix
  // CHECK: nvvm.stmatrix
  // Half as many columns: 4 loads of pairs, 4 stores, one matrix.
  // CHECK-COUNT-4: llvm.load {{.*}} : !llvm.ptr<3> -> vector<2xi32>
  // CHECK-NOT: llvm.load
  // CHECK: nvvm.bar.warp.sync
  // CHECK-COUNT-4: llvm.store {{.*}} : vector<2xi32>, !llvm.ptr<3>
  // CHECK-NOT: llvm.store
  // CHECK: nvvm.ldmatrix
  // CHECK-NOT: nvvm.ldmatrix
  // CHECK: nvvm.stmatrix
  // CHECK-NOT: nvvm.stmatrix
  // CHECK: nvvm.fence.proxy
  // CHECK: nvvm.barrier
  // CHECK: nvvm.cp.async.bulk.tensor.global.shared.cta
  // CHECK: arith.minui
  // CHECK: llvm.store {{.*}} : vector<4xi32>, !llvm.ptr<1>
  // CHECK: nvvm.cp.async.bulk.wait_group 1 {read}
  gpu.func @tiles(%map: !nvtile.tensor_map<bf16>, %order: memref<?xi32>, %o: memref<?x64xbf16>, %p: i32) kernel {
    %c0 = arith.constant 0 : i32
    %c64 = arith.constant 64 : i32
    %ring = nvtile.make_ring fills 1 releases 8 : !ring
    %h:2 = nvtile.read %ring[%p] tile 1 row 0 column 0 warpgroup %c0 : !ring -> !half, !half
    nvtile.write %h#0, %h#1 to %ring[%p] tile 1 row 0 column 0 warpgroup %c0 : !half, !half to !ring
    nvtile.write %h#1 to %ring[%p] tile 0 row 0 column 32 warpgroup %c0 : !half to !ring
    %q:2 = nvtile.read %ring[%p] tile 1 row 0 column 16 warpgroup %c0 : !ring -> !quarter, !quarter
    nvtile.write %q#0, %q#1 to %ring[%p] tile 1 row 0 column 16 warpgroup %c0 : !quarter, !quarter to !ring
    %r = nvtile.read %ring[%p] tile 0 row 0 column 48 warpgroup %c0 : !ring -> !quarter
    nvtile.write %r to %ring[%p] tile 0 row 0 column 48 warpgroup %c0 : !quarter to !ring
    nvtile.publish warpgroup %c0
    nvtile.store %ring[%p] tile 1 from 0 warpgroup %c0 to %map[%c0, %p] or %o[%p, %c0] end %p limit %c64
        : !ring, !nvtile.tensor_map<bf16>, memref<?x64xbf16>
    nvtile.store %ring[%p] tile 0 from 0 warpgroup %c0 to %map[%c0, %p] or %o[%p, %c0] end %p limit %c64
        by %order below %p divide 1 : !ring, !nvtile.tensor_map<bf16>, memref<?x64xbf16>, memref<?xi32>
    nvtile.store_wait pending 1
    gpu.return
  }
}
