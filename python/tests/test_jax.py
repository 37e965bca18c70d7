# SPDX-License-Identifier: Apache-2.0
"""moe_mlir.jax, and JAX's arrays in calls of compiled modules."""

import subprocess
import sys

import moe_mlir
import numpy as np
import pytest
from moe_mlir import layers

jax = pytest.importorskip("jax", reason="JAX is not installed (pip install jax, 600 MB on disk)")
jnp = jax.numpy

import moe_mlir.jax  # noqa: E402

D, N, E, K = 48, 32, 6, 2
LAYER = layers.GatedMLP(d_model=D, d_expert=N, experts=E, top_k=K, id_dtype="i32")


def arguments(T=70, dtype="float32"):
    rng = np.random.default_rng(T)

    def normal(*shape, scale=1.0):
        return jnp.asarray(scale * rng.standard_normal(shape), dtype)

    ids = jnp.asarray(rng.integers(E + 1, size=(T, K)), jnp.int32)  # E is a sentinel
    return normal(T, D), ids, jnp.abs(normal(T, K)).astype("float32"), normal(E, 2 * N, D, scale=0.1), normal(E, D, N, scale=0.2)


def by_expert(x, ids, gates, w1, w2):
    out = jnp.zeros(x.shape, jnp.float32)
    for e in range(E):
        gate, up = jnp.split(x.astype(jnp.float32) @ w1[e].T.astype(jnp.float32), 2, -1)
        y = (jax.nn.silu(gate) * up) @ w2[e].T.astype(jnp.float32)
        out = out + jnp.where(ids == e, gates, 0).sum(-1, keepdims=True) * y
    return out


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def mlp():
    return moe_mlir.jax.Operator(LAYER)


@pytest.mark.parametrize("T", [0, 1, 70])
def test_results_eager_and_traced(mlp, T):
    given = arguments(T)
    for function in (mlp, jax.jit(mlp)):
        out = function(*given)
        assert isinstance(out, jax.Array) and out.shape == (T, D)
        close(out, by_expert(*given))


@pytest.mark.parametrize("traced", [False, True])
def test_gradients(mlp, traced):
    given, wrt = arguments(), (0, 2, 3, 4)

    def loss(function):
        return lambda *a: jnp.sin(function(*a)).sum()

    ours, theirs = (jax.grad(loss(f), wrt) for f in (mlp, by_expert))
    for a, b in zip((jax.jit(ours) if traced else ours)(*given), theirs(*given)):
        close(a, b)


def test_what_is_not_asked_for_is_not_compiled():
    operator = moe_mlir.jax.Operator(LAYER)
    given = arguments()
    gradient = jax.jit(jax.grad(lambda w1: operator(*given[:3], w1, given[4]).sum()))(given[3])
    close(gradient, jax.grad(lambda w1: by_expert(*given[:3], w1, given[4]).sum())(given[3]))
    assert [(p.wrt, len(p.backward_entry.outputs)) for p in operator._programs.values()] == [((3,), 1)]
    assert jax.grad(lambda x: (x + operator(*given)).sum())(given[0]).shape == given[0].shape  # not through it


def test_a_loop_of_training(mlp):
    """scan: one program, run several times, with what is kept in it."""
    x, ids, gates, *weights = arguments()

    def step(weights, _):
        loss, gradients = jax.value_and_grad(lambda w: (mlp(x, ids, gates, *w) ** 2).mean())(weights)
        return [w - g for w, g in zip(weights, gradients)], loss

    _, losses = jax.jit(lambda w: jax.lax.scan(step, w, None, length=5))(weights)
    assert np.all(np.diff(np.asarray(losses)) < 0)


def test_batches(mlp):
    given = arguments()
    stacked = jnp.stack([given[0], 2 * given[0]])
    out = jax.vmap(mlp, (0, None, None, None, None))(stacked, *given[1:])
    close(out[1], mlp(2 * given[0], *given[1:]))


def test_large_arrays(mlp):
    """Two large calls in one program: XLA's threads are ours to wait for, not we theirs."""
    given = arguments(20000)
    out = jax.jit(lambda x, *rest: mlp(mlp(x, *rest), *rest))(*given)
    assert np.isfinite(np.asarray(out)).all()


def test_bfloat16():
    layer = layers.GatedMLP(d_model=D, d_expert=N, experts=E, top_k=K, id_dtype="i32", dtype="bf16")
    given = arguments(dtype="bfloat16")
    given = (*given[:2], given[2].astype(layer.inputs()[2].numpy_dtype), *given[3:])
    out = moe_mlir.jax.Operator(layer)(*given)
    assert out.dtype == jnp.bfloat16
    error = jnp.abs(out.astype(jnp.float32) - by_expert(*given)).max()
    assert error <= 2.0**-6 * jnp.abs(by_expert(*given)).max()
    # And in a call of the module itself, outside of any program of JAX's.
    assert np.array_equal(np.asarray(layer.compile()(*given)), np.asarray(out))


def test_arrays_of_jax_in_a_call_of_a_module():
    module, given = LAYER.compile(), arguments()
    out = module(*given)
    assert isinstance(out, np.ndarray)
    close(out, by_expert(*given))
    with pytest.raises(moe_mlir.errors.ArgumentError, match="out of forward is read-only"):
        module(*given, out=jnp.zeros(given[0].shape))


def test_several_results():
    route = moe_mlir.jax.Operator(layers.Router(experts=E, top_k=K, id_dtype="i32"))
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((5, E)), jnp.float32)
    gates, ids = jax.jit(route)(logits)
    _, expected = jax.lax.top_k(jax.nn.softmax(logits), K)
    assert np.array_equal(ids, expected)
    gradient = jax.grad(lambda x: route(x)[0][:, 0].sum())(logits)
    assert np.isfinite(gradient).all() and jnp.abs(gradient).max() > 0


def test_what_is_refused(mlp):
    given = arguments()
    for function in (mlp, jax.jit(mlp)):
        with pytest.raises(moe_mlir.errors.ArgumentError, match="'x': dimension 1 is 47, expected 48"):
            function(given[0][:, 1:], *given[1:])
        with pytest.raises(moe_mlir.errors.ArgumentError, match="'ids': dtype is int8, expected int32"):
            function(given[0], given[1].astype(jnp.int8), *given[2:])
        with pytest.raises(moe_mlir.errors.ArgumentError, match="takes 5 inputs and inouts, got 4"):
            function(*given[:4])
    with pytest.raises(moe_mlir.errors.ArgumentError, match=r"result ids of forward is int64, which JAX has with "
                                                            r"jax_enable_x64 alone; set it, or .* \(id_dtype='i32'\)"):
        moe_mlir.jax.Operator(layers.Router(experts=E, top_k=K))(jnp.zeros((3, E)))


def test_jax_stays_unimported():
    program = "import sys, moe_mlir, moe_mlir.layers\nassert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
