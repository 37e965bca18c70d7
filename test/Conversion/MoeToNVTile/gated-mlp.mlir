// The six matrix products of a gated MLP, forward and backward, as kernels of
// the matrix unit: d = 768, n = 256, E = 128, K = 8.
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile --verify-roundtrip | FileCheck %s
// RUN: moe-opt %s --moe-select-config --convert-moe-to-nvtile --convert-nvtile-to-nvvm | FileCheck %s --check-prefix=NVVM
// RUN: sed -e '/^func.func @down/,$d' %s | moe-opt --moe-select-config --convert-moe-to-nvtile --moe-plan-workspace | FileCheck %s --check-prefix=PLAN

// One work table for an assignment, filled by a warp for each expert.
// CHECK-LABEL: func.func @up
// CHECK: %[[TABLE:.*]] = memref.alloc(%{{.*}}) : memref<?xi32>
// CHECK: gpu.launch_func @moe_work_table_128_module::@moe_work_table_128
// Gate and up rows of W1 are a dimension of its map: (in, n, 2, E).
// CHECK: nvtile.tensor_map %{{.*}} box [64, 128, 1, 1] : memref<128x512x768xbf16> -> <bf16>
// CHECK: nvtile.tensor_map %{{.*}} box [64, 1, 64] : memref<?x512xbf16> -> <bf16>
// CHECK: gpu.launch_func @up_grouped_matmul_0_module::@up_grouped_matmul_0
// CHECK-SAME: args({{.*}}, %[[TABLE]] : memref<?xi32>, %{{.*}} : memref<?xi32>)
// The host code of a launch: pointers, maps made by the runtime, shared memory.
// NVVM-LABEL: func.func @up
// NVVM: call @moe_rt_tensor_map
// NVVM: gpu.launch_func @up_grouped_matmul_0_module::@up_grouped_matmul_0
// NVVM-SAME: dynamic_shared_memory_size
// NVVM-SAME: args(%{{.*}} : index, %{{.*}} : !llvm.array<16 x i64>
// PLAN-LABEL: func.func @up
// PLAN-NOT: memref.alloc
// PLAN: memref.view
func.func @up(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<128xi32>, %end: memref<128xi32>, %x: memref<?x768xbf16>, %w1: memref<128x512x768xbf16>, %h: memref<?x512xbf16>, %act: memref<?x256xbf16>) {
    %a = moe.pack_assignment %order, %position, %begin, %end
        : memref<?xi32>, memref<?xi32>, memref<128xi32>, memref<128xi32> -> !moe.assignment<?x8, 128>
    moe.grouped_matmul by %a : !moe.assignment<?x8, 128>
        pairs(%x from token, %w1 out_in : memref<?x768xbf16>, memref<128x512x768xbf16>) columns <concat 2>
        ins() outs(%h : memref<?x512xbf16> rows grouped concat 2, %act : memref<?x256xbf16> rows grouped) {
    ^bb0(%g: f32, %u: f32):
      %one = arith.constant 1.0 : f32
      %m = arith.negf %g : f32
      %e = math.exp %m : f32
      %s = arith.addf %e, %one : f32
      %q = arith.divf %g, %s : f32
      %y = arith.mulf %q, %u : f32
      moe.yield %g, %u, %y : f32, f32, f32
    }
    return
}
// CHECK-LABEL: func.func @down
// Both operands by the copy engine.
// CHECK-COUNT-3: nvtile.tensor_map
// CHECK: gpu.launch_func @down_grouped_matmul_0_module
func.func @down(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<128xi32>, %end: memref<128xi32>, %act: memref<?x256xbf16>, %w2: memref<128x768x256xbf16>, %y: memref<?x768xbf16>) {
    %a = moe.pack_assignment %order, %position, %begin, %end
        : memref<?xi32>, memref<?xi32>, memref<128xi32>, memref<128xi32> -> !moe.assignment<?x8, 128>
    moe.grouped_matmul by %a : !moe.assignment<?x8, 128>
        pairs(%act from grouped, %w2 out_in : memref<?x256xbf16>, memref<128x768x256xbf16>) columns <single 1>
        ins() outs(%y : memref<?x768xbf16> rows grouped) {
    ^bb0(%v: f32):
      moe.yield %v : f32
    }
    return
}
// CHECK-LABEL: func.func @dup
// W2 is read along its rows: blocks of 64 x 64.
// CHECK: nvtile.tensor_map %{{.*}} box [64, 1, 64, 1] : memref<128x768x256xbf16> -> <bf16>
// Gates of slots are one vector.
// CHECK: memref.collapse_shape
// CHECK: gpu.launch_func @dup_grouped_matmul_0_module
func.func @dup(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<128xi32>, %end: memref<128xi32>, %do: memref<?x768xbf16>, %w2: memref<128x768x256xbf16>, %h: memref<?x512xbf16>, %gates: memref<?x8xf32>, %dh: memref<?x512xbf16>, %ga: memref<?x256xbf16>, %part: memref<?x2xf32>) {
    %a = moe.pack_assignment %order, %position, %begin, %end
        : memref<?xi32>, memref<?xi32>, memref<128xi32>, memref<128xi32> -> !moe.assignment<?x8, 128>
    moe.grouped_matmul by %a : !moe.assignment<?x8, 128>
        pairs(%do from token, %w2 in_out : memref<?x768xbf16>, memref<128x768x256xbf16>) columns <single 1>
        ins(%h : memref<?x512xbf16> rows grouped concat 2, %gates : memref<?x8xf32> scalar slot)
        outs(%dh : memref<?x512xbf16> rows grouped concat 2, %ga : memref<?x256xbf16> rows grouped, %part : memref<?x2xf32> partials grouped) {
    ^bb0(%da: f32, %g: f32, %u: f32, %gate: f32):
      %one = arith.constant 1.0 : f32
      %m = arith.negf %g : f32
      %e = math.exp %m : f32
      %s = arith.addf %e, %one : f32
      %sig = arith.divf %one, %s : f32
      %act = arith.mulf %g, %sig : f32
      %aa = arith.mulf %act, %u : f32
      %dag = arith.mulf %da, %gate : f32
      %du = arith.mulf %dag, %act : f32
      %os = arith.subf %one, %sig : f32
      %t = arith.mulf %act, %os : f32
      %dact = arith.addf %sig, %t : f32
      %dau = arith.mulf %dag, %u : f32
      %dg = arith.mulf %dau, %dact : f32
      %ga1 = arith.mulf %gate, %aa : f32
      %p = arith.mulf %da, %aa : f32
      moe.yield %dg, %du, %ga1, %p : f32, f32, f32, f32
    }
    return
}
// CHECK-LABEL: func.func @dx
// CHECK: gpu.launch_func @dx_grouped_matmul_0_module
func.func @dx(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<128xi32>, %end: memref<128xi32>, %dh: memref<?x512xbf16>, %w1: memref<128x512x768xbf16>, %dx: memref<?x768xbf16>) {
    %a = moe.pack_assignment %order, %position, %begin, %end
        : memref<?xi32>, memref<?xi32>, memref<128xi32>, memref<128xi32> -> !moe.assignment<?x8, 128>
    moe.grouped_matmul by %a : !moe.assignment<?x8, 128>
        pairs(%dh from grouped, %w1 in_out : memref<?x512xbf16>, memref<128x512x768xbf16>) columns <single 1>
        ins() outs(%dx : memref<?x768xbf16> rows grouped) {
    ^bb0(%v: f32):
      moe.yield %v : f32
    }
    return
}
// CHECK-LABEL: func.func @dw1
// The ragged map: row 2^30 is wherever an expert ends.
// CHECK: arith.constant 17179868160 : index
// CHECK: nvtile.tensor_map %{{.*}} box [64, 64, 1, 1] : memref<?x512xbf16> -> <bf16>
// CHECK: gpu.launch_func @dw1_grouped_outer_0_module
func.func @dw1(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<128xi32>, %end: memref<128xi32>, %x: memref<?x768xbf16>, %dh: memref<?x512xbf16>, %dw: memref<128x512x768xbf16>) {
    %a = moe.pack_assignment %order, %position, %begin, %end
        : memref<?xi32>, memref<?xi32>, memref<128xi32>, memref<128xi32> -> !moe.assignment<?x8, 128>
    moe.grouped_outer by %a : !moe.assignment<?x8, 128> x(%x from token : memref<?x768xbf16>) dy(%dh from grouped : memref<?x512xbf16>) out_in 
        outs(%dw : memref<128x512x768xbf16>)
    return
}
// CHECK-LABEL: func.func @dw2
// CHECK: gpu.launch_func @dw2_grouped_outer_0_module
func.func @dw2(%order: memref<?xi32>, %position: memref<?xi32>, %begin: memref<128xi32>, %end: memref<128xi32>, %ga: memref<?x256xbf16>, %do: memref<?x768xbf16>, %dw: memref<128x768x256xbf16>) {
    %a = moe.pack_assignment %order, %position, %begin, %end
        : memref<?xi32>, memref<?xi32>, memref<128xi32>, memref<128xi32> -> !moe.assignment<?x8, 128>
    moe.grouped_outer by %a : !moe.assignment<?x8, 128> x(%ga from grouped : memref<?x256xbf16>) dy(%do from token : memref<?x768xbf16>) out_in 
        outs(%dw : memref<128x768x256xbf16>)
    return
}

// CHECK-LABEL: gpu.func @up_grouped_matmul_0(
// CHECK: nvtile.make_ring fills 129 releases 8 : <4 x[128, 256]>
// CHECK: nvtile.make_staging : <2>
// CHECK: nvtile.specialize produce 56
// CHECK: nvtile.row_ids %{{.*}} divide 8 : memref<?xi32> -> vector<8xi32>
// CHECK: nvtile.gather
// CHECK: nvtile.commit
// CHECK: nvtile.drain
// CHECK: consume 224
// CHECK: nvtile.await {{.*}} gathered
// CHECK-NEXT: nvtile.mma {{.*}} lhs 0 rhs 1 warpgroup
// CHECK: nvtile.map
// CHECK: math.exp
// CHECK: nvtile.stage_store
// CHECK: nvtile.stage_flush

// CHECK-LABEL: gpu.func @down_grouped_matmul_0(
// CHECK: nvtile.make_ring fills 1 releases 4 : <8 x[64]>
// CHECK: nvtile.make_ring fills 1 releases 8 : <4 x[256]>
// CHECK: nvtile.make_staging : <2>
// CHECK: nvtile.specialize produce 40
// CHECK-NEXT: nvtile.elect

// CHECK-LABEL: gpu.func @dup_grouped_matmul_0(
// The producer brings H after a tile's products, both column blocks of 64
// columns of 128 rows in one stage.
// CHECK: nvtile.gather
// CHECK: nvtile.commit
// CHECK: nvtile.expect %{{.*}} 32768 bytes
// CHECK: nvtile.load %{{.*}} tile 1 row 0 :
// CHECK: nvtile.load %{{.*}} tile 1 row 128 :
// CHECK: nvtile.commit
// CHECK-COUNT-3: nvtile.expect %{{.*}} 32768 bytes
// CHECK: nvtile.drain
// One gate a row, asked for before the products.
// CHECK: nvtile.load_fragment {{.*}} below %{{.*}} divide 1 : memref<?xf32>, memref<?xi32> -> !nvtile.fragment<64x1>
// CHECK: nvtile.mma {{.*}} lhs 0 rhs 1 mn warpgroup
// Two column blocks of H.
// They come through the ring, 32 columns at a time.
// CHECK: nvtile.read {{.*}} tile 1 row 0 column 0
// CHECK: nvtile.read {{.*}} tile 1 row 128 column 0
// Four times 32 columns are a segment of the row sums.
// CHECK-COUNT-4: nvtile.row_sum
// CHECK: nvtile.store_fragment {{.*}} : <64x1>, memref<?x2xf32>

// CHECK-LABEL: gpu.func @dw1_grouped_outer_0(
// CHECK: nvtile.work_item experts
// CHECK: nvtile.gather {{.*}} count
// CHECK: nvtile.mma {{.*}} lhs 0 mn rhs 1 mn warpgroup
