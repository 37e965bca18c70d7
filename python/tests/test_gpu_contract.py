# SPDX-License-Identifier: Apache-2.0
"""What holds for every layer on a GPU whatever its size: the same bits again and in other company, no
expert's numbers in another's results, and right results from no token to 65536, at widths that fill
the matrix units and at ragged ones."""

import threading

import gpu
import pytest
import torch
from gpu_layer import backward_arguments, backward_of, close, compiled, make, reference
from test_gpu_layers import DTYPES, on_device

pytestmark = pytest.mark.gpu

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
ALL = pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "bf16", "f16"])
# (E, K, d, n): one tile of the matrix units and a part of one; the contraction of two row blocks.
WIDTHS = pytest.mark.parametrize("experts, k, d, n", [(8, 2, 256, 256), (16, 4, 264, 136), (64, 8, 512, 256)])
f32, bf16, f16 = torch.float32, torch.bfloat16, torch.float16
# (dtype, d, n): plain kernels; the tensor cores with whole tiles and with ragged ones.
KINDS = [(f32, 64, 32), (bf16, 64, 32), (bf16, 256, 256), (f16, 136, 72)]
kinds = pytest.mark.parametrize("dtype, d, n", KINDS, ids=["-".join(map(str, k)) for k in KINDS])


def check_against_f64(arguments, cotangent, out, gradients, experts, dtype):
    x, ids, gates, w1, w2 = [a.double().requires_grad_() if a.is_floating_point() else a for a in arguments]
    wanted = reference(x, ids, gates, w1, w2, experts)
    if not wanted.requires_grad:  # no token has an expert
        wanted = wanted + 0 * x
    close(out, wanted.detach(), dtype, "out")
    expected = torch.autograd.grad(wanted, [x, gates, w1, w2], cotangent.double(), allow_unused=True)
    for (what, actual), want in zip(gradients.items(), expected, strict=True):
        close(actual, torch.zeros_like(actual, dtype=torch.float64) if want is None else want, dtype, what)


@ALL
@WIDTHS
@pytest.mark.parametrize("kind, tokens", [("random", 0), ("random", 1), ("hot", 129), ("empty", 700), ("sentinels", 2500),
                                          ("random", 5000)])
def test_products_of_full_tiles(kind, tokens, experts, k, d, n, dtype):
    """Forward and every gradient, in 16 bits on the matrix units, twice with the same bits."""
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


@kinds
def test_a_token_has_the_same_bits_anywhere(dtype, d, n):
    """Alone, and at any position of any batch: results, and gradients of rows and gates."""
    tokens, k, experts = 40960, 2, 12
    arguments, cotangent = make("distinct", tokens, k, experts, d, n, dtype)
    module = compiled(k, experts, d, n, dtype)
    x, ids, gates, w1, w2 = arguments
    for row in (0, 12345):
        alone = None
        for batch in (1, 2, 7, 64, 129, 4096, 40960):
            for place in sorted({0, batch // 2, batch - 1}):
                others = torch.arange(1, batch + 1, device=gpu.DEVICE) % tokens
                others[place] = row
                given = [t[others] for t in (x, ids, gates)]
                out, gradients = backward_of(module, (*given, w1, w2), cotangent[others])
                mine = [t[place] for t in (out, gradients["d_x"], gradients["d_gates"])]
                alone = alone or mine
                for what, one, here in zip(("out", "d_x", "d_gates"), alone, mine):
                    assert torch.equal(one, here), (what, row, batch, place)


@ALL
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


@ALL
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
@ALL
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
@ALL
@pytest.mark.parametrize("first", [True, False], ids=["first-call-captured", "warm"])
def test_graph_of_forward_and_backward(first, dtype):
    """Captured and replayed on other tokens with another routing, tensor maps and work table included."""
    experts, k, n = 8, 2, 128
    d = 320 if first else 384  # a module that this process has not called
    module = compiled(k, experts, d, n, dtype)
    (x, ids, gates, w1, w2), cotangent = make("distinct", 3000, k, experts, d, n, dtype)
    forward, backward = module["forward"], module["backward"]
    outs, workspace, guards = gpu.new_outputs(forward, [x, ids, gates, w1, w2])
    named = dict(zip((a["name"] for a in forward.inputs), (x, ids, gates, w1, w2)), d_out=cotangent)
    named.update(zip((o["name"] for o in forward.outputs), outs))
    given = [named[a["name"]] for a in backward.inputs]
    gradients, backward_workspace, backward_guards = gpu.new_outputs(backward, given)

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
    gpu.check_guards(guards + backward_guards)
    out, wanted = backward_of(module, (x, ids, gates, w1, w2), cotangent)
    assert torch.equal(outs[0], out)
    for mine, (name, gradient) in zip(gradients, wanted.items(), strict=True):
        assert torch.equal(mine, gradient), name


@pytest.mark.parametrize("dtype, wide", [(f32, False), (bf16, False), (bf16, True), (f16, True)], ids=str)
@pytest.mark.parametrize("kind", ["distinct", "empty", "hot"])
def test_gradients_are_added_to_buffers(dtype, wide, kind):
    tokens, k, experts, d, n = 900, 2, 8, 136, 72
    arguments, cotangent = make(kind, tokens, k, experts, d, n, dtype)
    module = compiled(k, experts, d, n, dtype, accumulate="w1,w2", accumulate_f32=wide)
    before = {"d_w1": arguments[3] * 100, "d_w2": arguments[4] * 100}
    buffers = {name: b.to(f32 if wide else dtype) for name, b in before.items()}
    before = {name: b.double() for name, b in buffers.items()}
    backward_of(module, arguments, cotangent, buffers)
    exact = [a.double().requires_grad_() if a.is_floating_point() else a for a in arguments]
    wanted = torch.autograd.grad(reference(*exact, experts), exact[3:], cotangent.double())
    for (name, buffer), want in zip(buffers.items(), wanted, strict=True):
        close(buffer, before[name] + want, dtype, name)
        if wide:  # nothing was rounded to the narrow type
            close(buffer.double() - before[name], want, dtype, name)


def all_results(module, arguments, cotangent):
    out, gradients = backward_of(module, arguments, cotangent)
    return [out, *gradients.values()]


@on_device
@kinds
def test_streams_and_threads(dtype, d, n):
    """Four threads, each on two streams at once."""
    shape = ("distinct", 3000, 2, 8, d, n)
    arguments, cotangent = make(*shape, dtype)
    module = compiled(2, 8, d, n, dtype)
    wanted = all_results(module, arguments, cotangent)
    torch.cuda.synchronize()
    problems = []

    def work():
        try:
            streams = [torch.cuda.Stream() for _ in range(2)]
            mine = [([a.clone() for a in arguments], cotangent.clone()) for _ in streams]
            torch.cuda.synchronize()
            for _ in range(5):
                results = []
                for stream, given in zip(streams, mine):
                    with torch.cuda.stream(stream):
                        results.append(all_results(module, *given))
                for stream, result in zip(streams, results):
                    stream.synchronize()
                    for actual, want in zip(result, wanted, strict=True):
                        assert torch.equal(actual, want)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems


@on_device
def test_slices_of_a_larger_batch():
    """Rows of tensors that begin inside of others, at multiples of 16 bytes."""
    arguments, cotangent = make("distinct", 1000, 2, 8, 64, 32, bf16)
    module = compiled(2, 8, 64, 32, bf16)
    x, ids, gates, w1, w2 = arguments
    everything = gpu.call(module["forward"], *arguments)[0]
    part = slice(104, 904)
    outs, workspace, guards = gpu.new_outputs(module["forward"], [x[part], ids[part], gates[part], w1, w2])
    module["forward"](x[part], ids[part], gates[part], w1, w2, out=outs, workspace=workspace)
    gpu.check_guards(guards)
    assert torch.equal(outs[0], everything[part])
