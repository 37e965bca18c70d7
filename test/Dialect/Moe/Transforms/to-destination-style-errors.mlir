// RUN: moe-opt %s --moe-to-destination-style --split-input-file --verify-diagnostics

func.func @assigned(%ids: tensor<?x2xi32> {moe.dims = ["T", 2]}, %q: tensor<?x3xf32> {moe.dims = ["2*T", 3]},
                    %y: tensor<?x2xf32> {moe.dims = ["T", 2]}) -> tensor<?x2xf32> {
  %a = moe.assign ids(%ids : tensor<?x2xi32>) : !moe.assignment<?x2, 8>
  // expected-error @below {{wants its assignment to come from moe.pack_assignment; run moe-expand-assignment first}}
  %r = moe.fold_partials %q : tensor<?x3xf32> by %a : !moe.assignment<?x2, 8>
      to slot outs(%y : tensor<?x2xf32>)
  return %r : tensor<?x2xf32>
}
