// SPDX-License-Identifier: Apache-2.0
#ifndef MOE_TARGET_PASSES_TD
#define MOE_TARGET_PASSES_TD

include "mlir/Pass/PassBase.td"

def MoeAssembleKernels : Pass<"moe-assemble-kernels", "::mlir::ModuleOp"> {
  let summary = "PTX in gpu.binary ops to device code, by ptxas";
  let description = [{
    Runs `ptxas` on the text of each `gpu.binary`, several at a time, and puts
    the cubin in its place. The program is looked for in `ptxas` (the option),
    MOE_PTXAS, CUDA_HOME, PATH and MOE_PTXAS_FALLBACK (where Python names those
    of wheels); with none, the text stays, and the driver compiles it when the
    module is loaded.

    What ptxas says of each kernel (registers, stack, spills, warnings) goes
    into the attribute `moe.ptxas` of the binary. With `check`, a kernel that
    uses local memory, spills, or has its wgmma serialized (warnings C75xx) is
    an error.

    ```
    gpu.binary @k [#gpu.object<#nvvm.target<chip = "sm_90a">, assembly = "...">]
    ```
    becomes
    ```
    gpu.binary @k [#gpu.object<#nvvm.target<chip = "sm_90a">, bin = "...">]
    ```
  }];
  let options = [
    Option<"ptxas", "ptxas", "std::string", /*default=*/"\"\"",
           "the program to run; empty: look for it; none: leave the text">,
    Option<"check", "check", "bool", /*default=*/"false",
           "whether spills, local memory and serialized wgmma are errors">];
}

#endif // MOE_TARGET_PASSES_TD
