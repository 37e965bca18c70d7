# SPDX-License-Identifier: Apache-2.0
"""What the bits of compiled results may not depend on, and products too long for one panel."""

import moe_mlir
import pytest
import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
WEIGHT = 2**-5


def mlp(dtype):
    return moe_mlir.compile(moe_mlir.layers.GatedMLP(d_model=72, d_expert=40, experts=5, top_k=2, dtype=dtype))


def arguments(module, tokens):
    """Random inputs of `forward` by what the manifest says of them."""
    generator = torch.Generator().manual_seed(7)
    values = []
    for argument in module["forward"].inputs:
        sizes = [tokens if dim == "T" else dim for dim in argument["dims"]]
        if argument["dtype"].startswith("i"):
            # One expert has no rows, one has most.
            ids = torch.randint(0, 4, sizes, generator=generator)
            values.append(torch.where(torch.rand(sizes, generator=generator) < 0.5, torch.zeros_like(ids), ids))
        else:
            values.append(torch.randn(sizes, generator=generator).to(getattr(torch, argument["dtype"])))
    return values


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads(dtype, threads):
    module = mlp(dtype)
    inputs = arguments(module, 301)
    results = []
    for count in (1, 2, 3, 7):
        threads(count)
        results.append(module(*inputs))
    assert all(torch.equal(results[0], result) for result in results[1:])


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_rows(dtype):
    """Decoding a token gives the bits that it has among many."""
    module = mlp(dtype)
    inputs = arguments(module, 301)
    together = module(*inputs)
    tokens = {id(value) for value in inputs if value.shape[0] == 301}
    for token in (0, 1, 150, 300):
        alone = module(*[v[token : token + 1].contiguous() if id(v) in tokens else v for v in inputs])
        assert torch.equal(alone[0], together[token])


@pytest.mark.parametrize("layout", ["out_in", "in_out"])
@pytest.mark.parametrize("dtype, depth", [("f32", 1100), ("f32", 2048), ("bf16", 2211)])
def test_long_products(dtype, depth, layout):
    """More columns than one panel holds, more rows than one task takes."""
    tokens, width, experts = 900, 70, 2
    layer = moe_mlir.layers.ParallelLinear(
        d_in=depth, d_out=width, experts=experts, top_k=1, dtype=dtype, weight_layout=layout
    )
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(tokens, depth, generator=generator).to(DTYPES[dtype])
    w = (torch.randn(experts, width, depth, generator=generator) * WEIGHT).to(DTYPES[dtype])
    ids = (torch.arange(tokens) % 9 == 4).long()[:, None]
    given = w if layout == "out_in" else w.transpose(1, 2).contiguous()
    y = moe_mlir.compile(layer)(x, ids, given)
    exact = torch.einsum("ti,toi->to", x.double(), w.double()[ids[:, 0]])
    eps = torch.finfo(DTYPES[dtype]).eps
    assert ((y.double() - exact).abs() <= eps * exact.abs() / 2 + 3e-6 * depth**0.5).all()


@pytest.mark.parametrize("layout", ["out_in", "in_out"])
@pytest.mark.parametrize("cpu", ["host", "x86-64-v3", "x86-64"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_long_sums(dtype, cpu, layout):
    """More rows than are packed at a time, more of both widths than a task takes."""
    tokens, d, n, experts = 700, 290, 275, 3
    shape = (experts, n, d) if layout == "out_in" else (experts, d, n)
    w, s = f"tensor<{'x'.join(map(str, shape))}xf32>", f"!moe.assignment<?x1, {experts}>"
    x, dy = f"tensor<?x{d}x{dtype}>", f"tensor<?x{n}x{dtype}>"
    module = moe_mlir.compile(
        f"""
func.func @f(%x: {x} {{moe.dims = ["T", {d}]}}, %dy: {dy} {{moe.dims = ["T", {n}]}},
             %ids: tensor<?x1xi32> {{moe.dims = ["T", 1]}}) -> {w} {{
  %a = moe.assign ids(%ids : tensor<?x1xi32>) : {s}
  %w = moe.weight_grad %x from token, %dy from slot by %a {layout} : {x}, {dy}, {s} -> {w}
  return %w : {w}
}}""",
        cpu=cpu,
    )
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(tokens, d, generator=generator).to(DTYPES[dtype])
    dy = torch.randn(tokens, n, generator=generator).to(DTYPES[dtype])
    ids = (torch.arange(tokens, dtype=torch.int32) % 7 == 3).int()[:, None] * 2
    out = module(x, dy, ids)
    for expert in range(experts):
        rows = ids[:, 0] == expert
        exact = dy[rows].double().t() @ x[rows].double()
        exact = exact if layout == "out_in" else exact.t()
        assert ((out[expert].double() - exact).abs() <= 1e-5 * tokens**0.5).all()


def test_no_width():
    """A weight gradient without elements: nothing to write, and nothing to divide by."""
    module = moe_mlir.compile("""
func.func @f(%x: tensor<?x0xf32> {moe.dims = ["T", 0]}, %dy: tensor<?x5xf32> {moe.dims = ["T", 5]},
             %ids: tensor<?x1xi32> {moe.dims = ["T", 1]}) -> tensor<3x5x0xf32> {
  %a = moe.assign ids(%ids : tensor<?x1xi32>) : !moe.assignment<?x1, 3>
  %w = moe.weight_grad %x from token, %dy from slot by %a out_in
      : tensor<?x0xf32>, tensor<?x5xf32>, !moe.assignment<?x1, 3> -> tensor<3x5x0xf32>
  return %w : tensor<3x5x0xf32>
}""")
    assert module(torch.ones(4, 0), torch.ones(4, 5), torch.zeros(4, 1, dtype=torch.int32)).shape == (3, 5, 0)
