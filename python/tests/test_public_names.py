# SPDX-License-Identifier: Apache-2.0
"""What users import says what it is and what it takes."""

import importlib.util
import inspect

import moe_mlir
import moe_mlir.hf
import moe_mlir.torch
import pytest

MODULES = [moe_mlir, moe_mlir.layers, moe_mlir.errors, moe_mlir.torch, moe_mlir.hf]
if importlib.util.find_spec("jax"):
    import moe_mlir.jax

    MODULES.append(moe_mlir.jax)


def public():
    """Everything public that the package defines, by its path."""
    for module in MODULES:
        names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
        for name in names:
            value = getattr(module, name)
            if getattr(value, "__module__", "").startswith("moe_mlir"):
                yield f"{module.__name__}.{name}", value
                for part in vars(value) if inspect.isclass(value) else ():
                    member = inspect.getattr_static(value, part)
                    member = getattr(member, "func", getattr(member, "fget", member))
                    if not part.startswith("_") and inspect.isfunction(member):
                        yield f"{module.__name__}.{name}.{part}", member


@pytest.mark.parametrize("path, value", [pytest.param(*found, id=found[0]) for found in public()])
def test_it_has_a_docstring_and_types(path, value):
    if not path.endswith(".forward"):  # torch's own meaning
        assert inspect.getdoc(value), f"{path} has no docstring"
    if inspect.isfunction(value):
        signature = inspect.signature(value)
        bare = [p.name for p in signature.parameters.values() if p.name != "self" and p.annotation is p.empty]
        assert not bare, f"{path} does not say what {', '.join(bare)} may be"
        if path.rpartition(".")[2] not in ("compile", "interpret", "explain"):
            assert signature.return_annotation is not signature.empty, f"{path} does not say what it returns"


def test_much_is_public():
    assert len(list(public())) > 40
