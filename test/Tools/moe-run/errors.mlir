// One clear line and a non-zero exit for everything that can be given wrongly.
// RUN: rm -rf %t && mkdir %t
// RUN: moe-run %s --entry=same --interpret --random --dim T=3 --out %t/x.npy --out %t/n.npy
// RUN: not moe-run %t/none.mlir --interpret 2>&1 | FileCheck %s --check-prefix=FILE
// RUN: not moe-run %s --interpret 2>&1 | FileCheck %s --check-prefix=NOENTRY
// RUN: not moe-run %s --entry=g --interpret 2>&1 | FileCheck %s --check-prefix=ENTRY
// RUN: not moe-run %s --entry=hidden --interpret 2>&1 | FileCheck %s --check-prefix=HIDDEN
// RUN: not moe-run %s --entry=index --interpret 2>&1 | FileCheck %s --check-prefix=INDEX
// RUN: not moe-run %s --entry=same --interpret 2>&1 | FileCheck %s --check-prefix=MISSING
// RUN: not moe-run %s --entry=same --interpret --arg y=%t/x.npy 2>&1 | FileCheck %s --check-prefix=NAME
// RUN: not moe-run %s --entry=same --interpret --arg %t/x.npy --arg %t/n.npy --arg %t/x.npy 2>&1 | FileCheck %s --check-prefix=MANY
// RUN: not moe-run %s --entry=same --interpret --arg x=%t/none.npy 2>&1 | FileCheck %s --check-prefix=NOFILE
// RUN: not moe-run %s --entry=same --interpret --arg x=%s 2>&1 | FileCheck %s --check-prefix=NOTNPY
// RUN: not moe-run %s --entry=same --interpret --arg x=%t/n.npy 2>&1 | FileCheck %s --check-prefix=DTYPE
// RUN: not moe-run %s --entry=wide --interpret --arg x=%t/x.npy 2>&1 | FileCheck %s --check-prefix=SHAPE
// RUN: not moe-run %s --entry=flat --interpret --arg x=%t/x.npy 2>&1 | FileCheck %s --check-prefix=RANK
// RUN: not moe-run %s --entry=same --interpret --arg %t/x.npy --arg %t/n.npy --dim T=4 2>&1 | FileCheck %s --check-prefix=DIM
// RUN: not moe-run %s --entry=same --interpret --random 2>&1 | FileCheck %s --check-prefix=NODIM
// RUN: not moe-run %s --entry=same --interpret --random=x 2>&1 | FileCheck %s --check-prefix=SEED
// RUN: not moe-run %s --entry=same --interpret --random --dim T 2>&1 | FileCheck %s --check-prefix=BADDIM
// RUN: not moe-run %s --entry=same --interpret --random --dim T=3 --out out2=%t/y.npy 2>&1 | FileCheck %s --check-prefix=OUT
// RUN: not moe-run %s --entry=same --interpret --random --dim T=3 --out %t/none/y.npy 2>&1 | FileCheck %s --check-prefix=OUTFILE
// RUN: head -c 100 %t/x.npy > %t/cut.npy
// RUN: not moe-run %s --entry=same --interpret --arg x=%t/cut.npy 2>&1 | FileCheck %s --check-prefix=CUT
// RUN: head -c 130 %t/x.npy > %t/short.npy
// RUN: not moe-run %s --entry=same --interpret --arg x=%t/short.npy 2>&1 | FileCheck %s --check-prefix=SHORT
// RUN: %python -c "h = repr(dict(descr='<f4', fortran_order=False, shape=(2**40, 2**40))).encode(); open(r'%t/huge.npy', 'wb').write(b'\x93NUMPY\x01\x00' + bytes([len(h), 0]) + h)"
// RUN: not moe-run %s --entry=same --interpret --arg x=%t/huge.npy 2>&1 | FileCheck %s --check-prefix=HUGE
// RUN: %python -c "h = b'{no header'; open(r'%t/header.npy', 'wb').write(b'\x93NUMPY\x01\x00' + bytes([len(h), 0]) + h)"
// RUN: not moe-run %s --entry=same --interpret --arg x=%t/header.npy 2>&1 | FileCheck %s --check-prefix=HEADER
// RUN: %python -c "import numpy; numpy.save(r'%t/complex.npy', numpy.zeros((3, 4), 'c8')); numpy.save(r'%t/big.npy', numpy.zeros((3, 4), '>f4'))"
// RUN: not moe-run %s --entry=same --interpret --arg x=%t/complex.npy 2>&1 | FileCheck %s --check-prefix=COMPLEX
// RUN: not moe-run %s --entry=same --interpret --arg x=%t/big.npy 2>&1 | FileCheck %s --check-prefix=BIG
// RUN: not moe-run %s --entry=same --interpret --random --dim T=100000000000 2>&1 | FileCheck %s --check-prefix=LARGE
// RUN: not moe-run %s --entry=same --random --dim T=4611686018427387904 2>&1 | FileCheck %s --check-prefix=OVERFLOW

// COMPLEX: moe-run: error: argument x: {{.*}}complex.npy: holds dtype '<c8', wanted float32; convert it with astype
// BIG: moe-run: error: argument x: {{.*}}big.npy: holds big-endian >f4, wanted float32; convert it with astype
// LARGE: moe-run: error: argument x is float32 (100000000000, 4), more than this machine's memory: give smaller --dim
// LARGE-NOT: {{.}}
// OVERFLOW: moe-run: error: argument x is float32 (4611686018427387904, 4), more than this machine's memory: give smaller --dim
// FILE: moe-run: error: cannot open input file {{.*}}none.mlir
// NOENTRY: moe-run: error: say which entry to run with --entry; the module has same, index, wide, flat
// ENTRY: moe-run: error: no entry 'g'; the module has same, index, wide, flat
// HIDDEN: moe-run: error: no entry 'hidden'; the module has same
// INDEX: moe-run: error: argument n of @index is index; an entry takes tensors of f64, f32, f16, bf16, i64, i32, i16, i8 or i1
// MISSING: moe-run: error: argument x has no value: give float32 (T, 4) with --arg x=FILE.npy, or --random
// NAME: moe-run: error: no argument 'y' in @same; it has x, n
// MANY: moe-run: error: --arg {{.*}}x.npy is one too many: @same takes 2 (x, n)
// NOFILE: moe-run: error: argument x: {{.*}}none.npy: cannot be read: No such file or directory
// NOTNPY: moe-run: error: argument x: {{.*}}errors.mlir: is not a .npy file; write one with numpy.save
// DTYPE: moe-run: error: argument x: {{.*}}n.npy: holds int32, wanted float32; convert it with astype
// SHAPE: moe-run: error: argument x: {{.*}}x.npy holds float32 (3, 4), wanted float32 (T, 5)
// RANK: moe-run: error: argument x: {{.*}}x.npy holds float32 (3, 4), wanted float32 (12,)
// DIM: moe-run: error: argument x: {{.*}}x.npy holds float32 (3, 4), wanted float32 (T, 4) with T = 4
// NODIM: moe-run: error: argument x is float32 (T, 4): say how large with --dim T=SIZE
// SEED: moe-run: error: --random=x: wants a number as seed
// BADDIM: moe-run: error: --dim T: wants NAME=SIZE, as in --dim T=16
// OUT: moe-run: error: --out out2={{.*}}y.npy: there is no result 2, the entry has 2
// OUTFILE: moe-run: error: {{.*}}none/y.npy: cannot be written: No such file or directory
// CUT: moe-run: error: argument x: {{.*}}cut.npy: ends within its header
// HUGE: moe-run: error: argument x: {{.*}}huge.npy: has a shape that is too large
// HEADER: moe-run: error: argument x: {{.*}}header.npy: has a header that is not understood: {no header
// SHORT: moe-run: error: argument x: {{.*}}short.npy: holds 2 bytes, its shape wants 48

func.func @same(%x: tensor<?x4xf32> {moe.dims = ["T", 4]},
                %n: tensor<3xi32>) -> (tensor<?x4xf32>, tensor<3xi32>) {
  return %x, %n : tensor<?x4xf32>, tensor<3xi32>
}
func.func @index(%n: index) {
  return
}
func.func @wide(%x: tensor<?x5xf32> {moe.dims = ["T", 5]}) {
  return
}
func.func @flat(%x: tensor<12xf32>) {
  return
}
func.func private @hidden() {
  return
}
