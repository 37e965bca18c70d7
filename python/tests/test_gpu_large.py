# SPDX-License-Identifier: Apache-2.0
"""A layer whose weights and rows pass 2^31 elements, and 4 GiB: 64-bit addresses everywhere."""

import gpu
import pytest
import torch
from gpu_layer import backward_of, close, compiled

pytestmark = pytest.mark.gpu

K, EXPERTS, D, N = 8, 72, 4096, 4096


def memory():
    return 0 if gpu.DRY or not torch.cuda.is_available() else torch.cuda.get_device_properties(0).total_memory


def experts_of(x, ids, gates, weights_of):
    """The layer in float64 for a few tokens, one expert's weights at a time."""
    out = torch.zeros_like(x)
    for e in ids.unique().tolist():
        token, k = (ids == e).nonzero(as_tuple=True)
        w1, w2 = weights_of(e)
        gate, up = (x[token] @ w1.T).chunk(2, dim=-1)
        y = (torch.nn.functional.silu(gate) * up) @ w2.T
        out = out.index_add(0, token, gates[token, k, None] * y)
    return out


@pytest.mark.skipif(memory() < 100 << 30, reason="needs a GPU with 100 GiB of memory")
# Of f32, whose kernels are others, fewer tokens have rows of 4 GiB.
@pytest.mark.parametrize("dtype, tokens", [(torch.bfloat16, 65536), (torch.float32, 16384)], ids=["bf16", "f32"])
def test_past_two_to_the_31(dtype, tokens):
    assert EXPERTS * 2 * N * D > 1 << 31 and tokens * K * 2 * N * dtype.itemsize >= 4 << 30
    assert dtype == torch.float32 or tokens * K * 2 * N > 1 << 31
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*shape, scale=1.0):
        return torch.randn(*shape, generator=generator, device="cuda", dtype=dtype).mul_(scale)

    x, cotangent = normal(tokens, D), normal(tokens, D)
    ids = torch.rand(tokens, EXPERTS, generator=generator, device="cuda").topk(K).indices
    gates = torch.rand(tokens, K, generator=generator, device="cuda").to(dtype)
    w1, w2 = normal(EXPERTS, 2 * N, D, scale=D**-0.5), normal(EXPERTS, D, N, scale=N**-0.5)
    out, gradients = backward_of(compiled(K, EXPERTS, D, N, dtype), (x, ids, gates, w1, w2), cotangent)

    # Some tokens, the first and the last among them: results, and gradients of rows and gates.
    some = torch.cat([torch.tensor([0, 1, tokens - 1]), torch.randperm(tokens)[:9]]).cuda()
    x64 = x[some].double().requires_grad_()
    gates64 = gates[some].double().requires_grad_()
    wanted = experts_of(x64, ids[some], gates64, lambda e: (w1[e].double(), w2[e].double()))
    d_x, d_gates = torch.autograd.grad(wanted, [x64, gates64], cotangent[some].double())
    close(out[some], wanted.detach(), dtype, "out")
    close(gradients["d_x"][some], d_x, dtype, "d_x")
    close(gradients["d_gates"][some], d_gates, dtype, "d_gates")

    # The first and the last expert: gradients of weights.
    for e in (0, EXPERTS - 1):
        token, k = (ids == e).nonzero(as_tuple=True)
        mine = [w[e].double().requires_grad_() for w in (w1, w2)]
        wanted = experts_of(x[token].double(), torch.full_like(token, e)[:, None],
                            gates[token, k, None].double(), lambda _: mine)
        for name, want in zip(("d_w1", "d_w2"), torch.autograd.grad(wanted, mine, cotangent[token].double())):
            close(gradients[name][e], want, dtype, f"{name}[{e}]")
