// SPDX-License-Identifier: Apache-2.0
//
// The version of the dialect in bytecode, and bytecode that nobody wrote.

#include "moe/Dialect/Moe/IR/Bytecode.h"
#include "moe/Dialect/Moe/IR/Moe.h"

#include "mlir/Bytecode/BytecodeReader.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/MemoryBuffer.h"
#include "gtest/gtest.h"

using namespace mlir;
using namespace mlir::moe;

namespace {

class MoeBytecode : public ::testing::Test {
protected:
  MoeBytecode() {
    context.loadDialect<MoeDialect>();
    module = parseSourceString<ModuleOp>(R"mlir(
      module attributes {
        moe.all = [!moe.assignment<?x2, 8>, !moe.assignment<3x1, 4>,
                   #moe<order grouped>, #moe<weight_layout in_out>,
                   #moe<score sigmoid>, #moe<route_order topk_then_score>,
                   #moe.masked_groups<zero>, #moe.drop<score>,
                   #moe.port<rows slot concat 2>, #moe.columns<interleave 2>,
                   #moe.config<cooperative stages 3 from 9 rows,
                               cooperative parts 8 from 5 rows, simt "no">]
      } {})mlir",
                                         ParserConfig(&context, false));
  }

  std::string write(uint64_t version) {
    BytecodeWriterConfig config;
    config.setDialectVersion<MoeDialect>(
        std::make_unique<MoeDialectVersion>(version));
    std::string bytes;
    llvm::raw_string_ostream os(bytes);
    EXPECT_TRUE(succeeded(writeBytecodeToFile(*module, os, config)));
    return bytes;
  }

  /// The op read, or null with `message` set.
  OwningOpRef<Operation *> read(StringRef bytes) {
    message.clear();
    ScopedDiagnosticHandler handler(&context, [&](Diagnostic &diagnostic) {
      message += diagnostic.str();
      return success();
    });
    Block block;
    llvm::MemoryBufferRef buffer(bytes, "test");
    if (failed(readBytecodeFile(buffer, &block, ParserConfig(&context, false))))
      return {};
    Operation *read = &block.front();
    read->remove();
    return read;
  }

  MLIRContext context;
  OwningOpRef<ModuleOp> module;
  std::string message;
};

TEST_F(MoeBytecode, KeepsTypesAndAttributes) {
  ASSERT_TRUE(module);
  auto again = read(write(MoeDialectVersion::current));
  ASSERT_TRUE(again) << message;
  EXPECT_EQ(module->getOperation()->getAttrDictionary(),
            (*again)->getAttrDictionary());
}

TEST_F(MoeBytecode, HoldsNoText) {
  // Text may change between releases: nothing of it may be in bytecode.
  std::string bytes = write(MoeDialectVersion::current);
  for (StringRef text :
       {"assignment<", "grouped", "interleave", "in_out", "cooperative"})
    EXPECT_FALSE(StringRef(bytes).contains(text)) << text.str();
}

TEST_F(MoeBytecode, RefusesNewerVersions) {
  EXPECT_FALSE(read(write(MoeDialectVersion::current + 1)));
  EXPECT_NE(message.find("bytecode of version 4 of the moe dialect, newer than "
                         "version 3 that is read here; update moe-mlir"),
            std::string::npos)
      << message;
}

TEST_F(MoeBytecode, RefusesUnknownCodesAndCases) {
  // #moe.drop<score> is code 5, case 1; varints of one byte are 2 n + 1. The
  // same bytes may also stand where they mean something else.
  std::string bytes = write(MoeDialectVersion::current), messages;
  for (size_t at = 0; (at = bytes.find("\x0b\x03", at)) != std::string::npos;
       ++at) {
    std::string code = bytes, value = bytes;
    code[at] = 2 * 63 + 1;
    EXPECT_FALSE(read(code));
    messages += message;
    value[at + 1] = 2 * 9 + 1;
    EXPECT_FALSE(read(value));
    messages += message;
  }
  // !moe.assignment<3x1, 4> is code 0; numbers with a sign are in zigzag.
  size_t at = bytes.find("\x01\x0d\x05\x11");
  ASSERT_NE(at, std::string::npos);
  bytes[at] = 2 * 63 + 1;
  EXPECT_FALSE(read(bytes));
  EXPECT_NE(message.find("unknown code 63 of a moe type"), std::string::npos)
      << message;
  EXPECT_NE(messages.find("unknown code 63 of a moe attribute"),
            std::string::npos)
      << messages;
  EXPECT_NE(messages.find("unknown case 9 of a moe enumeration"),
            std::string::npos)
      << messages;
}

} // namespace
