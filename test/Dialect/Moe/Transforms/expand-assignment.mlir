// RUN: moe-opt %s --moe-expand-assignment --split-input-file --verify-diagnostics | FileCheck %s

// An assignment used twice has one pack.
// CHECK-LABEL: func.func @ids(
// CHECK-SAME:    %[[X:.*]]: tensor<?x16xf32>, %[[IDS:.*]]: tensor<?x2xi64>)
// CHECK:         %[[T:.*]] = tensor.dim %[[IDS]]
// CHECK:         %[[SLOTS:.*]] = arith.muli %[[T]], %c2
// CHECK:         tensor.empty(%[[SLOTS]]) : tensor<?xi32>
// CHECK:         tensor.empty(%[[SLOTS]]) : tensor<?xi32>
// CHECK:         %[[S:.*]]:4 = moe.sort_slots ids(%[[IDS]] : tensor<?x2xi64>) outs({{.*}} : tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>)
// CHECK:         %[[A:.*]] = moe.pack_assignment %[[S]]#0, %[[S]]#1, %[[S]]#2, %[[S]]#3
// CHECK-NOT:     moe.pack_assignment
// CHECK:         %[[G:.*]] = moe.group %[[X]] from token by %[[A]]
// CHECK:         moe.scatter %[[G]] by %[[A]]
func.func @ids(%x: tensor<?x16xf32>, %ids: tensor<?x2xi64>)
    -> (tensor<?x16xf32>, tensor<?x16xf32>) {
  %a = moe.assign ids(%ids : tensor<?x2xi64>) : !moe.assignment<?x2, 8>
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  %s = moe.scatter %g by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %g, %s : tensor<?x16xf32>, tensor<?x16xf32>
}

// -----

// CHECK-LABEL: func.func @static_tokens(
// CHECK-NOT:     tensor.dim
// CHECK:         moe.sort_slots ids({{.*}}) outs({{.*}} : tensor<10xi32>, tensor<10xi32>, tensor<8xi32>, tensor<8xi32>)
// CHECK:         return {{.*}} : tensor<8xi32>
func.func @static_tokens(%ids: tensor<5x2xi32>) -> tensor<8xi32> {
  %a = moe.assign ids(%ids : tensor<5x2xi32>) : !moe.assignment<5x2, 8>
  %o, %p, %b, %e = moe.unpack_assignment %a : !moe.assignment<5x2, 8>
      -> tensor<10xi32>, tensor<10xi32>, tensor<8xi32>, tensor<8xi32>
  return %e : tensor<8xi32>
}

// -----

// CHECK-LABEL: func.func @counts(
// CHECK-SAME:    %[[N:.*]]: tensor<8xi64>, %[[ROWS:.*]]: index)
// CHECK:         tensor.empty(%[[ROWS]]) : tensor<?xi32>
// CHECK:         moe.sort_slots counts(%[[N]] : tensor<8xi64>) capacity 4
func.func @counts(%n: tensor<8xi64>, %rows: index) -> tensor<?xi32> {
  %a = moe.assign counts(%n : tensor<8xi64>) rows(%rows) capacity 4
      : !moe.assignment<?x1, 8>
  %o, %p, %b, %e = moe.unpack_assignment %a : !moe.assignment<?x1, 8>
      -> tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>
  return %o : tensor<?xi32>
}

// -----

// Attributes stay beside their arguments, and calls follow.
// CHECK-LABEL: func.func private @callee(
// CHECK-SAME:    %[[X:.*]]: tensor<?x16xf32> {moe.dims = ["T", 16]},
// CHECK-SAME:    %[[O:.*]]: tensor<?xi32> {moe.name = "a.order"}, %[[P:.*]]: tensor<?xi32> {moe.name = "a.position"},
// CHECK-SAME:    %[[B:.*]]: tensor<8xi32> {moe.name = "a.begin"}, %[[E:.*]]: tensor<8xi32> {moe.name = "a.end"},
// CHECK-SAME:    %{{.*}}: tensor<?x32xf32> {moe.dims = ["T", 32]})
// CHECK-SAME:    -> (tensor<?xi32>, tensor<?xi32>, tensor<8xi32>, tensor<8xi32>, tensor<?x16xf32> {moe.dims = ["T*2", 16]})
// CHECK:         %[[A:.*]] = moe.pack_assignment %[[O]], %[[P]], %[[B]], %[[E]]
// CHECK:         moe.group %[[X]] from token by %[[A]]
// CHECK:         return %[[O]], %[[P]], %[[B]], %[[E]], %{{.*}}
func.func private @callee(
    %x: tensor<?x16xf32> {moe.dims = ["T", 16]},
    %a: !moe.assignment<?x2, 8> {moe.name = "a"},
    %y: tensor<?x32xf32> {moe.dims = ["T", 32]})
    -> (!moe.assignment<?x2, 8>, tensor<?x16xf32> {moe.dims = ["T*2", 16]}) {
  %g = moe.group %x from token by %a
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %a, %g : !moe.assignment<?x2, 8>, tensor<?x16xf32>
}
// CHECK-LABEL: func.func @caller(
// CHECK:         %[[S:.*]]:4 = moe.sort_slots
// CHECK:         call @callee(%{{.*}}, %[[S]]#0, %[[S]]#1, %[[S]]#2, %[[S]]#3, %{{.*}})
func.func @caller(%x: tensor<?x16xf32>, %y: tensor<?x32xf32>,
                  %ids: tensor<?x2xi32>) -> tensor<?x16xf32> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %b, %g = call @callee(%x, %a, %y)
      : (tensor<?x16xf32>, !moe.assignment<?x2, 8>, tensor<?x32xf32>)
      -> (!moe.assignment<?x2, 8>, tensor<?x16xf32>)
  %s = moe.scatter %g by %b
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %s : tensor<?x16xf32>
}

// -----

func.func @selected(%c: i1, %i: tensor<?x2xi32>, %j: tensor<?x2xi32>,
                    %x: tensor<?x16xf32>) -> tensor<?x16xf32> {
  %a = moe.assign ids(%i : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  %b = moe.assign ids(%j : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  // expected-error @below {{makes an assignment without tables; assignments come from moe.assign and moe.pack_assignment}}
  %s = arith.select %c, %a, %b : !moe.assignment<?x2, 8>
  %g = moe.group %x from token by %s
      : tensor<?x16xf32>, !moe.assignment<?x2, 8> -> tensor<?x16xf32>
  return %g : tensor<?x16xf32>
}
