// SPDX-License-Identifier: Apache-2.0
// The `nvtile` dialect: its name and its types.
#ifndef MOE_DIALECT_NVTILE_IR_NVTILEDIALECT_TD
#define MOE_DIALECT_NVTILE_IR_NVTILEDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/DialectBase.td"
include "mlir/IR/OpBase.td"

def NVTile_Dialect : Dialect {
  let name = "nvtile";
  let cppNamespace = "::mlir::nvtile";
  let summary = "persistent, warp-specialised matrix-product kernels of sm_90a";
  let description = [{
    Between level 2 of `moe` and NVVM: one block of three warpgroups (384
    threads) on each multiprocessor, one of which brings operand tiles into a
    ring in shared memory while two multiply them (wgmma) and store what they
    have accumulated. A kernel is a `gpu.func` in a `gpu.module`; loops are
    `scf.for` on i32, scalars are `arith`. Each op has one pattern into NVVM.

    An operand tile is rows of 64 16-bit elements (128 bytes, swizzled as
    SWIZZLE_128B says). Where the 64 elements lie along the contraction the tile
    is K-major; where they lie along the other dimension it is MN-major, and the
    tile is a sequence of blocks of 64 features x 64 contraction steps.

    A *position* (i32) counts the fills of a ring from 0: its stage is position
    mod stages, its phase position / stages. Producer and consumers count alike,
    so a position is all that a loop carries.
  }];
  let useDefaultTypePrinterParser = 1;
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::gpu::GPUDialect", "::mlir::scf::SCFDialect"];
}

class NVTile_Type<string name, string mnemonic_> : TypeDef<NVTile_Dialect, name> {
  let mnemonic = mnemonic_;
}

def NVTile_TensorMapType : NVTile_Type<"TensorMap", "tensor_map"> {
  let summary = "128 bytes that tell the copy engine a tensor's layout";
  let description = [{
    `!nvtile.tensor_map<bf16>`: made by `nvtile.tensor_map` on the host, passed to
    a kernel by value.
  }];
  let parameters = (ins "::mlir::Type":$elementType);
  let assemblyFormat = "`<` $elementType `>`";
}

def NVTile_RingType : NVTile_Type<"Ring", "ring"> {
  let summary = "stages of operand tiles in shared memory, with their barriers";
  let description = [{
    `!nvtile.ring<4 x [128, 256]>`: four stages, each of a tile of 128 and one of
    256 rows of 128 bytes. A stage has a barrier `full` and a barrier `empty`.
  }];
  let parameters = (ins "int64_t":$stages, ArrayRefParameter<"int64_t">:$rows);
  let assemblyFormat = "`<` $stages `x` `[` $rows `]` `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Bytes of one stage, of all stages, and of the ring with its barriers.
    int64_t getStageBytes() const;
    int64_t getTileBytes() const { return getStages() * getStageBytes(); }
    int64_t getBytes() const { return getTileBytes() + 16 * getStages(); }
    /// Where tile i lies in a stage.
    int64_t getTileOffset(unsigned i) const;
  }];
}

def NVTile_StagingType : NVTile_Type<"Staging", "staging"> {
  let summary = "buffers of 64 rows of 128 bytes for each consuming warpgroup";
  let description = [{
    `!nvtile.staging<2>`: results pass through them on their way to memory.
  }];
  let parameters = (ins "int64_t":$buffers);
  let assemblyFormat = "`<` $buffers `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    int64_t getWarpgroupBytes() const { return getBuffers() * 8192; }
    int64_t getBytes() const { return 2 * getWarpgroupBytes(); }
  }];
}

def NVTile_TurnsType : NVTile_Type<"Turns", "turns"> {
  let summary = "barriers by which the consuming warpgroups take turns";
  let description = [{
    `!nvtile.turns`: turn i is that of warpgroup i mod 2. A warpgroup awaits its
    turn, and passes it on; the first needs no passing.
  }];
  let extraClassDeclaration = [{
    int64_t getBytes() const { return 16; }
  }];
}

def NVTile_FragmentType : NVTile_Type<"Fragment", "fragment"> {
  let summary = "values of 64 rows, spread over a warpgroup's registers";
  let description = [{
    `!nvtile.fragment<64x256>`: f32, the accumulator of wgmma; thread t holds, for each
    8 columns, two of row 16 * (t / 32) + t % 32 / 4 and two of the row 8 below.
    `64x1`: one value a row (each held by four threads); `1x64`: one value a
    column (each held by 32 threads); they broadcast in `nvtile.map`.
    `64x64, bf16`: rounded, two values of a row in a register.
  }];
  let parameters = (ins "int64_t":$rows, "int64_t":$columns,
                        "::mlir::Type":$elementType);
  let builders = [TypeBuilder<(ins "int64_t":$rows, "int64_t":$columns), [{
    return $_get($_ctxt, rows, columns,
                 ::mlir::Type(::mlir::Float32Type::get($_ctxt)));
  }]>];
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Registers that one thread holds: values, or pairs of 16 bits.
    int64_t getRegisters() const;
  }];
}

#endif // MOE_DIALECT_NVTILE_IR_NVTILEDIALECT_TD
