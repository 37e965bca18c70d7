// SPDX-License-Identifier: Apache-2.0
// The `moe` dialect: its name, its types and its attributes.
#ifndef MOE_DIALECT_MOE_IR_MOEDIALECT_TD
#define MOE_DIALECT_MOE_IR_MOEDIALECT_TD

include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/DialectBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/OpBase.td"

def Moe_Dialect : Dialect {
  let name = "moe";
  let cppNamespace = "::mlir::moe";
  let summary = "sparse Mixture-of-Experts layers";
  let description = [{
    Two levels live in this dialect. Level 1 is plain tensor math: what a user
    writes or a frontend emits (`moe.route`, `moe.assign`, `moe.group`,
    `moe.scatter`, `moe.combine`, `moe.parallel_linear`, `moe.weight_grad`,
    `moe.rowwise`, `moe.expert_sum`). Level 2 has one op per kernel that will
    run, in destination style, on tensors or memrefs (`moe.grouped_matmul`,
    `moe.grouped_outer`, `moe.map_rows`, `moe.combine_rows`,
    `moe.reduce_experts`, `moe.fold_partials`, `moe.sort_slots`,
    `moe.route_rows`, `moe.route_grad_rows`); only `moe-form-kernels` makes it.

    Vocabulary: T tokens, d model width, n expert width, E experts, K experts
    per token. A *slot* is a (token, choice) pair; slot s belongs to token
    s / K. Rows come in `token` order (T rows), `slot` order (T*K rows) or
    `grouped` order (T*K rows sorted by expert, valid where an expert's
    [begin, end) covers them). An expert id outside [0, E) is a *sentinel*:
    its slot belongs to no expert.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::tensor::TensorDialect"];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let hasConstantMaterializer = 1;
  let hasOperationAttrVerify = 1;
  let hasRegionArgAttrVerify = 1;
  let hasRegionResultAttrVerify = 1;
}

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

class Moe_Type<string name, string mnemonic_> : TypeDef<Moe_Dialect, name> {
  let mnemonic = mnemonic_;
}

def Moe_AssignmentType : Moe_Type<"Assignment", "assignment"> {
  let summary = "which expert each slot went to, and where its row lies";
  let description = [{
    `!moe.assignment<TxK, E>`: four i32 tables. `order` (T*K): the slot of each
    grouped row; `position` (T*K): its inverse, -1 for a sentinel slot;
    `begin`, `end` (E): each expert's rows. Gaps between experts are allowed,
    so padded and (E, capacity, d) layouts are assignments too. T may be `?`.

    ```
    !moe.assignment<?x2, 8>     // any number of tokens, top-2 of 8 experts
    !moe.assignment<128x1, 4>
    ```
  }];
  let parameters = (ins "int64_t":$tokens, "int64_t":$k, "int64_t":$experts);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// T*K, or ShapedType::kDynamic where T is dynamic.
    int64_t getSlots() const;
    bool hasStaticTokens() const;
  }];
}

//===----------------------------------------------------------------------===//
// Enumerations
//===----------------------------------------------------------------------===//

class Moe_I32Enum<string name, string summary, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, summary, cases> {
  let cppNamespace = "::mlir::moe";
  let genSpecializedAttr = 0;
}
class Moe_EnumAttr<EnumAttrInfo info, string mnemonic>
    : EnumAttr<Moe_Dialect, info, mnemonic>;

def Moe_RowOrder : Moe_I32Enum<"RowOrder", "the order in which rows lie", [
  I32EnumAttrCase<"Token", 0, "token">,
  I32EnumAttrCase<"Slot", 1, "slot">,
  I32EnumAttrCase<"Grouped", 2, "grouped">]>;
def Moe_RowOrderAttr : Moe_EnumAttr<Moe_RowOrder, "order"> {
  let assemblyFormat = "$value";
}

def Moe_ColumnLayout : Moe_I32Enum<"ColumnLayout",
    "how c values per region column lie in a row", [
  I32EnumAttrCase<"Single", 0, "single">,
  I32EnumAttrCase<"Concat", 1, "concat">,
  I32EnumAttrCase<"Interleave", 2, "interleave">]>;

def Moe_PortKind : Moe_I32Enum<"PortKind",
    "what a rowwise region reads or writes through an operand or result", [
  I32EnumAttrCase<"Rows", 0, "rows">,
  I32EnumAttrCase<"Scalar", 1, "scalar">,
  I32EnumAttrCase<"Expert", 2, "expert">,
  I32EnumAttrCase<"Sum", 3, "sum">,
  I32EnumAttrCase<"Partials", 4, "partials">]>;

def Moe_WeightLayout : Moe_I32Enum<"WeightLayout",
    "(E, out, in) or (E, in, out)", [
  I32EnumAttrCase<"OutIn", 0, "out_in">,
  I32EnumAttrCase<"InOut", 1, "in_out">]>;
def Moe_WeightLayoutAttr : Moe_EnumAttr<Moe_WeightLayout, "weight_layout"> {
  let assemblyFormat = "$value";
}

def Moe_Score : Moe_I32Enum<"Score", "from logits to scores", [
  I32EnumAttrCase<"Softmax", 0, "softmax">,
  I32EnumAttrCase<"Sigmoid", 1, "sigmoid">,
  I32EnumAttrCase<"Identity", 2, "identity">]>;
def Moe_ScoreAttr : Moe_EnumAttr<Moe_Score, "score"> {
  let assemblyFormat = "$value";
}

def Moe_RouteOrder : Moe_I32Enum<"RouteOrder",
    "whether scores are taken before or after the top-k", [
  I32EnumAttrCase<"ScoreThenTopK", 0, "score_then_topk">,
  I32EnumAttrCase<"TopKThenScore", 1, "topk_then_score">]>;
def Moe_RouteOrderAttr : Moe_EnumAttr<Moe_RouteOrder, "route_order"> {
  let assemblyFormat = "$value";
}

def Moe_MaskedGroups : Moe_I32Enum<"MaskedGroups",
    "the selection key of experts in groups that were not chosen", [
  I32EnumAttrCase<"Zero", 0, "zero">,
  I32EnumAttrCase<"NegInf", 1, "neg_inf">]>;
def Moe_MaskedGroupsAttr : Moe_EnumAttr<Moe_MaskedGroups, "masked_groups"> {
  let assemblyFormat = "`<` $value `>`";
}

def Moe_Drop : Moe_I32Enum<"Drop",
    "which slots an expert over its capacity drops", [
  I32EnumAttrCase<"Position", 0, "position">,
  I32EnumAttrCase<"Score", 1, "score">]>;
def Moe_DropAttr : Moe_EnumAttr<Moe_Drop, "drop"> {
  let assemblyFormat = "`<` $value `>`";
}

def Moe_Structure : Moe_I32Enum<"Structure",
    "how the kernel of a matrix product is built", [
  // Any type, size and architecture: threads that multiply and add.
  I32EnumAttrCase<"Simt", 0, "simt">,
  // The matrix unit of sm_90a, two warpgroups on one tile (docs/NVTile.md).
  I32EnumAttrCase<"Cooperative", 1, "cooperative">,
  // The same with a tile's weights resident in shared memory while rows pass by
  // them, each warpgroup on a tile of its own.
  I32EnumAttrCase<"Resident", 2, "resident">]>;

def Moe_HostValue : Moe_I32Enum<"HostValue",
    "what the host knows before a launch", [
  I32EnumAttrCase<"None", 0, "none">,
  I32EnumAttrCase<"Rows", 1, "rows">,
  I32EnumAttrCase<"Processors", 2, "processors">]>;

//===----------------------------------------------------------------------===//
// Attributes
//===----------------------------------------------------------------------===//

def Moe_PortAttr : AttrDef<Moe_Dialect, "Port"> {
  let mnemonic = "port";
  let summary = "how a rowwise region sees one operand or result";
  let description = [{
    `rows`: a (rows, c*N) tensor; the region gets (or yields) c values for each
    of the N columns: `concat c` takes column j, N+j, ...; `interleave c` takes
    c*j, c*j+1, ... . `scalar`: one value a row; in slot order its shape is
    (T, K). `expert`: an (E, c*N) tensor read by the row's expert. `sum`
    (results): the f32 sum over the N columns, in segments of 128 columns, each
    in a fixed order, then the segments left to right. `partials`: the segments
    themselves, (rows, ceil(N / 128)), before they are folded (level 2).
    The order says in which order the rows of this operand or result lie.
  }];
  let parameters = (ins EnumParameter<Moe_PortKind>:$kind,
                        EnumParameter<Moe_RowOrder>:$order,
                        EnumParameter<Moe_ColumnLayout>:$layout,
                        "int64_t":$count);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let builders = [AttrBuilder<(ins "PortKind":$kind, "RowOrder":$order), [{
    return $_get($_ctxt, kind, order, ColumnLayout::Single, int64_t(1));
  }]>];
  let extraClassDeclaration = [{
    /// The same port, its rows in another order.
    PortAttr withOrder(RowOrder order) const;
    /// Whether it holds a value for each column (`rows` and `expert`).
    bool hasColumns() const {
      return getKind() == PortKind::Rows || getKind() == PortKind::Expert;
    }
    /// Block arguments (operand) or yielded values (result).
    int64_t numValues() const { return hasColumns() ? getCount() : 1; }
  }];
}
def Moe_PortArrayAttr : TypedArrayAttrBase<Moe_PortAttr, "array of ports">;

def Moe_ColumnsAttr : AttrDef<Moe_Dialect, "Columns"> {
  let mnemonic = "columns";
  let summary = "how the columns of an accumulator become region values";
  let parameters = (ins EnumParameter<Moe_ColumnLayout>:$layout,
                        "int64_t":$count);
  let assemblyFormat = "`<` $layout $count `>`";
}

def Moe_VariantAttr : AttrDef<Moe_Dialect, "Variant"> {
  let mnemonic = "variant";
  let summary = "one way to build the kernel of a matrix product";
  let description = [{
    A structure (see the enumeration), and the numbers that it is built with:
    `tile` (rows x columns of the accumulator), `stages` of the ring of operand
    tiles, `buffers` that results are staged in, `parts` that the rows of experts
    with many rows are split into for a weight gradient, at most so many in all
    (1: no expert is split). A number that is not there is chosen by
    `moe-select-config`. `simt` may say why it was chosen. A guard
    `from N rows` (of the assignment, T*K) or `from N processors` (of the GPU)
    lets the host decide at each call: the variant is for calls that have at
    least so many.

    ```
    #moe.variant<cooperative tile 128x256 stages 4 buffers 2>
    #moe.variant<cooperative from 4096 rows>
    #moe.variant<simt "its operands are f32, not bf16 or f16">
    ```

    Constraints:
    * (C1) `simt` has no numbers, and it alone has a reason
    * (C2) numbers and the guard's bound are at least 1
  }];
  let parameters = (ins EnumParameter<Moe_Structure>:$structure,
                        "int64_t":$tileRows, "int64_t":$tileColumns,
                        "int64_t":$stages, "int64_t":$buffers,
                        "int64_t":$parts,
                        OptionalParameter<"::mlir::StringAttr">:$reason,
                        EnumParameter<Moe_HostValue>:$guard,
                        "int64_t":$atLeast);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let builders = [AttrBuilder<(ins "Structure":$structure,
                                   CArg<"StringRef", "{}">:$reason), [{
    return $_get($_ctxt, structure, int64_t(0), int64_t(0), int64_t(0),
                 int64_t(0), int64_t(0),
                 reason.empty() ? StringAttr() : StringAttr::get($_ctxt, reason),
                 HostValue::None, int64_t(0));
  }]>];
  let extraClassDeclaration = [{
    /// Numbers are 0 where they are not chosen.
    bool hasTile() const { return getTileRows() != 0; }
    bool hasGuard() const { return getGuard() != HostValue::None; }
    /// The same variant, for every call.
    VariantAttr withoutGuard() const;
    /// In which order a result's terms are added: variants of one op that say
    /// the same give the same bits.
    std::string getReductionOrder() const;
    /// Parses and prints what stands between the angle brackets.
    static VariantAttr parseBody(AsmParser &parser);
    void printBody(AsmPrinter &printer) const;
  }];
}

def Moe_ConfigAttr : AttrDef<Moe_Dialect, "Config"> {
  let mnemonic = "config";
  let summary = "which kernels a matrix product has, and when each runs";
  let description = [{
    An ordered list of variants (`#moe.variant`): the first whose guard holds
    runs, so the last has none. `moe-select-config` gives each matrix product of
    level 2 one, and keeps one that is there already; a conversion for a GPU
    does what it says, a CPU has one way and takes no notice.

    ```mlir
    func.func private @f() attributes {
      moe.config = #moe.config<cooperative stages 3 from 4096 rows,
                               cooperative stages 4>
    }
    ```

    Constraints:
    * (C1) there is a variant
    * (C2) the last has no guard, all others have one
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::moe::VariantAttr">:$variants);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
}

#endif // MOE_DIALECT_MOE_IR_MOEDIALECT_TD
