// SPDX-License-Identifier: Apache-2.0
//
// Random bodies of moe.rowwise: every argument is used, every op is bounded or
// grows like a product, and none leaves the real numbers.

#ifndef MOE_TOOLS_MOE_FUZZ_REGION_H
#define MOE_TOOLS_MOE_FUZZ_REGION_H

#include "Rng.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Region.h"

namespace mlir::moe::fuzz {

void buildRandomRegion(Rng &rng, Region &region, unsigned numArguments,
                       unsigned numYields, FloatType type, Location loc);

} // namespace mlir::moe::fuzz

#endif // MOE_TOOLS_MOE_FUZZ_REGION_H
