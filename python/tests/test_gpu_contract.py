# SPDX-License-Identifier: Apache-2.0
"""What holds for every layer on a GPU whatever its size: the same bits again and in other company, no
expert's numbers in another's results, and right results from no token to 65536, at widths that fill
the matrix units and at ragged ones."""

import gpu
import pytest
import torch
from test_gpu_layers import DTYPES, backward_of, close, compiled, make, on_device, reference

pytestmark = pytest.mark.gpu

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
ALL = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "bf16", "f16"])
# (E, K, d, n): one tile of the matrix units and a part of one; the contraction of two row blocks.
WIDTHS = pytest.mark.parametrize("experts, k, d, n", [(8, 2, 256, 256), (16, 4, 264, 136), (64, 8, 512, 256)])


def check_against_f64(arguments, cotangent, out, gradients, experts, dtype):
    x, ids, gates, w1, w2 = [a.double().requires_grad_() if a.is_floating_point() else a for a in arguments]
    wanted = reference(x, ids, gates, w1, w2, experts)
    if not wanted.requires_grad:  # no token has an expert
        wanted = wanted + 0 * x
    close(out, wanted.detach(), dtype, "out")
    expected = torch.autograd.grad(wanted, [x, gates, w1, w2], cotangent.double(), allow_unused=True)
    for (what, actual), want in zip(gradients.items(), expected, strict=True):
        close(actual, torch.zeros_like(actual, dtype=torch.float64) if want is None else want, dtype, what)


@HALVES
@WIDTHS
@pytest.mark.parametrize("kind, tokens", [("random", 0), ("random", 1), ("hot", 129), ("empty", 700), ("sentinels", 2500),
                                          ("random", 5000)])
def test_products_of_full_tiles(kind, tokens, experts, k, d, n, dtype):
    """Forward and every gradient on the matrix units, twice with the same bits."""
    arguments, cotangent = make(kind, tokens, k, experts, d, n, dtype)
    module = compiled(k, experts, d, n, dtype)
    out, gradients = backward_of(module, arguments, cotangent)
    check_against_f64(arguments, cotangent, out, gradients, experts, dtype)
    again, gradients_again = backward_of(module, arguments, cotangent)
    assert torch.equal(out, again)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, gradients_again[name]), name


@on_device
@ALL
@pytest.mark.parametrize("tokens, experts, k", [(65536, 8, 2), (40960, 128, 8), (16384, 512, 16), (300, 16, 16)])
def test_many_tokens_and_experts(tokens, experts, k, dtype):
    """T up to 65536, E up to 512, K up to 16 and K = E."""
    d, n = (64, 32) if dtype == torch.float32 else (128, 72)
    arguments, cotangent = make("distinct", tokens, k, experts, d, n, dtype)
    out, gradients = backward_of(compiled(k, experts, d, n, dtype), arguments, cotangent)
    check_against_f64(arguments, cotangent, out, gradients, experts, dtype)


@ALL
@pytest.mark.parametrize("experts, k, d, n", [(8, 2, 64, 32), (8, 2, 256, 256)])
def test_a_token_in_any_company(experts, k, d, n, dtype):
    """A token has the same bits alone and at any place among T = 2, 7, 64, 129, 4096 and 40960."""
    total = 4096 if gpu.DRY else 40960
    (x, ids, gates, w1, w2), _ = make("distinct", total, k, experts, d, n, dtype)
    forward = compiled(k, experts, d, n, dtype)["forward"]
    all_rows = gpu.call(forward, x, ids, gates, w1, w2)[0]
    for tokens in (1, 2, 7, 64, 129, 4096):
        for first in {0, min(1000, total - tokens), total - tokens}:
            mine = [a[first : first + tokens].clone() for a in (x, ids, gates)]
            some = gpu.call(forward, *mine, w1, w2)[0]
            assert torch.equal(some, all_rows[first : first + tokens]), (tokens, first)
    # One token at each of some places among tokens that are not its own.
    mine = [a[17:18].clone() for a in (x, ids, gates)]
    for tokens, place in ((2, 1), (129, 128), (4096, 2049)):
        others = [a[1000 : 1000 + tokens].clone() if len(a) >= 1000 + tokens else a[:tokens].clone() for a in (x, ids, gates)]
        for other, one in zip(others, mine):
            other[place] = one[0]
        assert torch.equal(gpu.call(forward, *others, w1, w2)[0][place], all_rows[17]), (tokens, place)


@HALVES
@WIDTHS
def test_no_expert_meets_another(experts, k, d, n, dtype):
    """Inf and NaN of one expert's rows and weights reach no other's, nor do those of its cotangents:
    rows of neighbours share tiles, so each expert in turn."""
    arguments, cotangent = make("random", 1500, 1, experts, d, n, dtype)
    module = compiled(1, experts, d, n, dtype)
    out, gradients = backward_of(module, arguments, cotangent)
    for bad_expert in (0, 3, experts - 1):
        x, ids, gates, w1, w2 = (a.clone() for a in arguments)
        d_out = cotangent.clone()
        bad = (ids == bad_expert).flatten()
        x[bad] = float("nan")
        x[bad.nonzero()[::2].flatten()] = float("inf")
        d_out[bad] = float("nan")
        w1[bad_expert], w2[bad_expert] = float("inf"), float("nan")
        out_bad, gradients_bad = backward_of(module, (x, ids, gates, w1, w2), d_out)
        others = [e for e in range(experts) if e != bad_expert]
        assert torch.equal(out[~bad], out_bad[~bad])
        for what, rows in (("d_x", ~bad), ("d_gates", ~bad), ("d_w1", others), ("d_w2", others)):
            assert torch.equal(gradients[what][rows], gradients_bad[what][rows]), (bad_expert, what)


@HALVES
@WIDTHS
def test_an_expert_without_rows_has_no_gradient(experts, k, d, n, dtype):
    """Zeros, also where the first token, which stands in for rows that are not there, is not finite."""
    (x, ids, gates, w1, w2), cotangent = make("empty", 700, k, experts, d, n, dtype)
    x[0], cotangent[0] = float("nan"), float("inf")
    _, gradients = backward_of(compiled(k, experts, d, n, dtype), (x, ids, gates, w1, w2), cotangent)
    empty = [e for e in range(experts) if not (ids == e).any()]
    assert empty
    for what in ("d_w1", "d_w2"):
        assert not gradients[what][empty].any(), what


@on_device
@HALVES
def test_two_streams_at_once(dtype):
    """Two calls in flight, each with a workspace of its own, forward and backward."""
    experts, k, d, n = 16, 4, 256, 256
    module = compiled(k, experts, d, n, dtype)
    sets = [make(kind, 6000, k, experts, d, n, dtype) for kind in ("distinct", "hot")]
    wanted = [backward_of(module, *each) for each in sets]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in sets]
    found = [[], []]
    for _ in range(5):
        for number, (stream, each) in enumerate(zip(streams, sets)):
            with torch.cuda.stream(stream):
                found[number].append(backward_of(module, *each))
    torch.cuda.synchronize()
    for (out, gradients), repeats in zip(wanted, found):
        for other, other_gradients in repeats:
            assert torch.equal(out, other)
            for name, gradient in gradients.items():
                assert torch.equal(gradient, other_gradients[name]), name


@on_device
@HALVES
@pytest.mark.parametrize("first", [True, False], ids=["first-call-captured", "warm"])
def test_graph_of_forward_and_backward(first, dtype):
    """Captured and replayed on other tokens with another routing, tensor maps and work table included."""
    experts, k, n = 8, 2, 128
    d = 320 if first else 384  # a module that this process has not called
    module = compiled(k, experts, d, n, dtype)
    (x, ids, gates, w1, w2), cotangent = make("distinct", 3000, k, experts, d, n, dtype)
    forward, backward = module["forward"], module["backward"]
    outs, workspace = gpu.new_outputs(forward, [x, ids, gates, w1, w2])
    named = dict(zip((a["name"] for a in forward.inputs), (x, ids, gates, w1, w2)), d_out=cotangent)
    named.update(zip((o["name"] for o in forward.outputs), outs))
    given = [named[a["name"]] for a in backward.inputs]
    gradients, backward_workspace = gpu.new_outputs(backward, given)

    def call():
        forward(x, ids, gates, w1, w2, out=outs, workspace=workspace)
        backward(*given, out=gradients, workspace=backward_workspace)

    if not first:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    (x2, ids2, gates2, _, _), _ = make("hot", 3000, k, experts, d, n, dtype)
    for old, new in ((x, x2.flip(0)), (ids, ids2), (gates, gates2.flip(0))):
        old.copy_(new)
    for tensor in (*outs, *gradients):
        gpu.fill(tensor)
    graph.replay()
    torch.cuda.synchronize()
    out, wanted = backward_of(module, (x, ids, gates, w1, w2), cotangent)
    assert torch.equal(outs[0], out)
    for mine, (name, gradient) in zip(gradients, wanted.items(), strict=True):
        assert torch.equal(mine, gradient), name
