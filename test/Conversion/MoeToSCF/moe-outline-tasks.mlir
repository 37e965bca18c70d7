// RUN: moe-opt %s -split-input-file -moe-outline-tasks -verify-diagnostics | FileCheck %s

// CHECK:       func.func private @moe_rt_parallel_for((i64, !llvm.ptr) -> (), !llvm.ptr, i64)
// CHECK-LABEL: func.func @fill(
// CHECK-SAME:    %[[X:.*]]: memref<?xf32>, %[[N:.*]]: index)
// CHECK:         %[[CTX:.*]] = llvm.alloca %{{.*}} x !llvm.struct<(struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)>)>
// CHECK:         %[[D:.*]] = builtin.unrealized_conversion_cast %[[X]]
// CHECK:         llvm.insertvalue %[[D]], %{{.*}}[0]
// CHECK:         llvm.store %{{.*}}, %[[CTX]]
// CHECK:         %[[F:.*]] = constant @fill_task : (i64, !llvm.ptr) -> ()
// CHECK:         %[[COUNT:.*]] = arith.index_cast %[[N]] : index to i64
// CHECK:         call @moe_rt_parallel_for(%[[F]], %[[CTX]], %[[COUNT]])
// CHECK:       func.func private @fill_task(%[[I:.*]]: i64, %[[P:.*]]: !llvm.ptr) attributes {llvm.linkage = #llvm.linkage<internal>} {
// CHECK:         %[[ONE:.*]] = arith.constant 1.000000e+00
// CHECK:         %[[ALL:.*]] = llvm.load %[[P]]
// CHECK:         llvm.extractvalue %[[ALL]][0]
// CHECK:         %[[AT:.*]] = arith.index_cast %[[I]] : i64 to index
// CHECK:         memref.store %[[ONE]], %{{.*}}[%[[AT]]]
func.func @fill(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %one = arith.constant 1.0 : f32
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    memref.store %one, %x[%i] : memref<?xf32>
  }
  return
}

// -----

func.func @not_tasks(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %one = arith.constant 1.0 : f32
  // expected-error @+1 {{is not a loop over tasks: one dimension from 0 in steps of 1, without reductions}}
  scf.parallel (%i) = (%c0) to (%n) step (%c2) {
    memref.store %one, %x[%i] : memref<?xf32>
  }
  return
}

// -----

func.func @nested(%x: memref<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %one = arith.constant 1.0 : f32
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    // expected-error @+1 {{is inside another parallel loop; tasks do not start tasks: make it scf.for}}
    scf.parallel (%j) = (%c0) to (%n) step (%c1) {
      memref.store %one, %x[%j] : memref<?xf32>
    }
  }
  return
}

// -----

llvm.func @outside(%n: i64) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %m = arith.index_cast %n : i64 to index
  // expected-error @+1 {{is not inside a func.func; run moe-outline-tasks before functions are converted}}
  scf.parallel (%i) = (%c0) to (%m) step (%c1) {
  }
  llvm.return
}

// -----

func.func @tensor(%x: memref<?xf32>, %y: tensor<?xf32>, %n: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  // expected-error @+1 {{uses a value of type 'tensor<?xf32>', which cannot be passed to a task; bufferize before moe-outline-tasks}}
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %v = tensor.extract %y[%i] : tensor<?xf32>
    memref.store %v, %x[%i] : memref<?xf32>
  }
  return
}
