# SPDX-License-Identifier: Apache-2.0
"""How lit runs the tests of this folder. Values of one build are in lit.site.cfg.py."""

import os
import shutil

import lit.formats
import lit.llvm
from lit.llvm.subst import ToolSubst

config.name = "moe-mlir"
config.test_format = lit.formats.ShTest(not lit.llvm.llvm_config.use_lit_shell)
config.suffixes = [".mlir", ".test"]
config.excludes = ["Inputs", "CMakeLists.txt", "lit.cfg.py", "lit.site.cfg.py"]
config.test_source_root = config.moe_test_dir
config.test_exec_root = os.path.join(config.moe_binary_dir, "test")

llvm = lit.llvm.llvm_config
llvm.with_environment("PATH", config.llvm_tools_dir, append_path=True)
llvm.with_environment("PATH", config.moe_tools_dir, append_path=True)
llvm.add_tool_substitutions(
    [
        ToolSubst("%python", config.python, unresolved="ignore"),
        ToolSubst("%moe_src_root", config.moe_source_dir, unresolved="ignore"),
        # A driver that is made up, and so a machine with a GPU that does nothing.
        ToolSubst("%fake_cuda", os.path.join(config.moe_library_dir, "libmoe_fake_cuda.so"), unresolved="ignore"),
    ]
)
llvm.add_tool_substitutions(
    [
        ToolSubst(tool, unresolved="ignore")
        for tool in ("moe-opt", "moe-run", "moe-compile", "moe-reduce", "moe-lsp-server", "moe-fuzz", "moe-break")
    ],
    [config.moe_tools_dir],
)
llvm.add_tool_substitutions(["FileCheck", "not", "split-file", "count"], [config.llvm_tools_dir])

# ptxas comes with the CUDA toolkit or the nvidia-cuda-nvcc package.
ptxas = os.environ.get("MOE_PTXAS") or shutil.which("ptxas")
if ptxas:
    config.available_features.add("ptxas")
    config.environment["MOE_PTXAS"] = ptxas
else:
    lit_config.note("no ptxas on PATH or in MOE_PTXAS: tests of cubins are not run")

# nvdisasm comes with the CUDA toolkit.
nvdisasm = os.environ.get("MOE_NVDISASM") or shutil.which("nvdisasm")
if nvdisasm and ptxas:
    config.available_features.add("nvdisasm")
    config.environment["MOE_NVDISASM"] = nvdisasm
else:
    lit_config.note("no nvdisasm on PATH or in MOE_NVDISASM: machine code is not looked at")

# A test that hangs is a failure, not a wait. lit needs psutil for that.
if lit_config.maxIndividualTestTimeIsSupported[0]:
    lit_config.maxIndividualTestTime = 120
