// SPDX-License-Identifier: Apache-2.0
// moe-assemble-kernels: see Passes.td.
#include "moe/Runtime/Ptxas.h"
#include "moe/Target/Passes.h"

#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/IR/Builders.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/Threading.h"
#include "llvm/Support/raw_ostream.h"

namespace mlir::moe {
#define GEN_PASS_DEF_MOEASSEMBLEKERNELS
#include "moe/Target/Passes.h.inc"
} // namespace mlir::moe

using namespace mlir;

namespace {
/// A temporary file, removed at the end.
struct TemporaryFile {
  explicit TemporaryFile(StringRef suffix) {
    failed =
        bool(llvm::sys::fs::createTemporaryFile("moe-kernel", suffix, path));
  }
  ~TemporaryFile() {
    if (!failed)
      llvm::sys::fs::remove(path);
  }
  bool write(StringRef contents) const {
    std::error_code error;
    llvm::raw_fd_ostream os(path, error);
    os << contents;
    os.close();
    bool written = !error && !os.has_error();
    os.clear_error();
    return written;
  }
  std::string read() const {
    auto buffer = llvm::MemoryBuffer::getFile(path);
    return buffer ? (*buffer)->getBuffer().str() : std::string();
  }
  SmallString<64> path;
  bool failed;
};

/// One run of ptxas.
class Assembly {
public:
  Assembly(gpu::BinaryOp binary, gpu::ObjectAttr object)
      : binary(binary), object(object), text("ptx"), cubin("cubin"),
        log("log") {}

  LogicalResult start(const std::string &program);
  LogicalResult finish(bool check);

private:
  gpu::BinaryOp binary;
  gpu::ObjectAttr object;
  TemporaryFile text, cubin, log;
  llvm::sys::ProcessInfo process;
};
} // namespace

LogicalResult Assembly::start(const std::string &program) {
  if (text.failed || cubin.failed || log.failed ||
      !text.write(object.getObject().getValue()))
    return binary.emitOpError()
           << "needs temporary files, which cannot be written; set TMPDIR to a "
              "folder that can be, with space in it";
  // No other target's dialect is registered.
  StringRef chip = cast<NVVM::NVVMTargetAttr>(object.getTarget()).getChip();
  SmallVector<StringRef> arguments = {program, "-v",      "-O3", "-arch",
                                      chip,    text.path, "-o",  cubin.path};
  StringRef out = log.path.str();
  std::optional<StringRef> redirects[] = {StringRef(), out, out};
  std::string error;
  bool failed = false;
  process = llvm::sys::ExecuteNoWait(program, arguments, std::nullopt,
                                     redirects, 0, &error, &failed);
  if (failed)
    return binary.emitOpError() << "cannot start '" << program << "': " << error
                                << "; give the path of ptxas, or none";
  return success();
}

/// The first line of ptxas's that says the kernel is not as it should be.
static std::string findDefect(StringRef log) {
  SmallVector<StringRef> lines;
  log.split(lines, '\n');
  for (StringRef line : lines) {
    if (line.contains("C75"))
      return line.str();
    // "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
    if (line.contains("stack frame") &&
        !line.contains(" 0 bytes stack frame, 0 bytes spill stores"))
      return line.trim().str();
  }
  return "";
}

LogicalResult Assembly::finish(bool check) {
  std::string error;
  llvm::sys::ProcessInfo done =
      llvm::sys::Wait(process, /*SecondsToWait=*/std::nullopt, &error);
  std::string said = log.read();
  if (done.ReturnCode != 0)
    return binary.emitOpError()
           << "is refused by ptxas (status " << done.ReturnCode
           << "): " << StringRef(said).trim();
  if (check) {
    std::string defect = findDefect(said);
    if (!defect.empty())
      return binary.emitOpError()
             << "assembles to a kernel with a defect: " << defect;
  }
  Builder b(binary.getContext());
  auto assembled =
      gpu::ObjectAttr::get(object.getTarget(), gpu::CompilationTarget::Binary,
                           b.getStringAttr(cubin.read()));
  binary.setObjectsAttr(b.getArrayAttr({assembled}));
  binary->setAttr("moe.ptxas", b.getStringAttr(StringRef(said).trim()));
  return success();
}

namespace {
struct MoeAssembleKernels
    : public mlir::moe::impl::MoeAssembleKernelsBase<MoeAssembleKernels> {
  using MoeAssembleKernelsBase::MoeAssembleKernelsBase;

  void runOnOperation() override {
    std::string program = ptxas;
    if (program.empty())
      if (std::optional<::moe::Ptxas> found = ::moe::findPtxas(0))
        program = found->path;
    if (program.empty() || program == "none")
      return markAllAnalysesPreserved();
    SmallVector<std::unique_ptr<Assembly>> all;
    for (auto binary : getOperation().getOps<gpu::BinaryOp>())
      for (Attribute attr : binary.getObjects()) {
        auto object = cast<gpu::ObjectAttr>(attr);
        if (object.getFormat() == gpu::CompilationTarget::Assembly)
          all.push_back(std::make_unique<Assembly>(binary, object));
      }
    // So many at a time; they take about as long each.
    size_t together =
        std::max(1u, llvm::hardware_concurrency().compute_thread_count());
    for (size_t first = 0; first < all.size(); first += together) {
      auto batch = MutableArrayRef(all).slice(
          first, std::min(together, all.size() - first));
      LogicalResult result = success();
      SmallVector<Assembly *> started;
      for (auto &assembly : batch) {
        if (succeeded(assembly->start(program)))
          started.push_back(assembly.get());
        else
          result = failure();
      }
      for (Assembly *assembly : started)
        if (failed(assembly->finish(check)))
          result = failure();
      if (failed(result))
        return signalPassFailure();
    }
  }
};
} // namespace
