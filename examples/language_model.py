# SPDX-License-Identifier: Apache-2.0
"""A small MoE language model on real text, in PyTorch and with compiled experts.

    make demo

1. Trains a byte-level transformer with sparse experts, in plain PyTorch, on the
   sources of Python's standard library, until it knows held-out files better
   than a unigram model does.
2. Swaps the loop over experts for the compiled layer and evaluates again: each
   byte's loss has to be the same to rounding.
3. Times both, and shows the stages that the layer went through.

Exits with 1 where the losses differ. That the check can fail is shown, not
claimed: every expert is zeroed once, and each time the check has to notice.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import pathlib
import re
import statistics
import sys
import sysconfig
import time
from typing import Callable, Optional, Sequence

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import moe_mlir

VOCABULARY = 256
"""Tokens are bytes."""


@dataclasses.dataclass(frozen=True)
class Config:
    """The model and how long it is trained."""

    layers: int = 2
    d_model: int = 128
    heads: int = 4
    d_expert: int = 128
    experts: int = 8
    top_k: int = 2
    context: int = 128
    batch: int = 16
    steps: int = 300
    seconds: float = 50.0
    """Training stops after so many seconds, whatever the number of steps."""
    learning_rate: float = 3e-3
    balance: float = 1e-2
    """Weight of the auxiliary loss that keeps every expert in use."""
    held_out_windows: int = 64
    seed: int = 0

    @property
    def layer(self) -> moe_mlir.layers.GatedMLP:
        """The experts of one block, for the compiler."""
        return moe_mlir.layers.GatedMLP(d_model=self.d_model, d_expert=self.d_expert,
                                        experts=self.experts, top_k=self.top_k)


# ---- text --------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Text:
    """Bytes to train on and bytes held out, from different files."""

    train: Tensor
    held_out: Tensor
    files: int


def standard_library(limit: int = 6_000_000) -> Text:
    """The standard library's sources, every eighth file held out, int64."""
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    skipped = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}
    files = [f for f in sorted(root.rglob("*.py")) if not skipped & set(f.relative_to(root).parts)]
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    size = 0
    for number, file in enumerate(files):
        parts[number % 8 == 7].append(file.read_bytes())
        size += len(parts[number % 8 == 7][-1])
        if size > limit:
            break
    train, held_out = (torch.frombuffer(bytearray(b"".join(p)), dtype=torch.uint8).long() for p in parts)
    return Text(train, held_out, number + 1)


def unigram_loss(text: Text) -> float:
    """Nats a byte of held-out text, under the frequencies of the training text."""
    counts = torch.bincount(text.train, minlength=VOCABULARY).double() + 1
    return -(counts / counts.sum()).log()[text.held_out].mean().item()


def windows(text: Tensor, count: int, context: int, generator: Optional[torch.Generator]) -> Tensor:
    """(count, context + 1) bytes: at random places, or evenly spread without a generator."""
    last = len(text) - context - 1
    if generator is None:
        starts = torch.linspace(0, last, count).long()
    else:
        starts = torch.randint(last + 1, (count,), generator=generator)
    return text[starts[:, None] + torch.arange(context + 1)]


# ---- model -------------------------------------------------------------------


class LoopOverExperts(nn.Module):
    """Gated MLP experts as they are written in PyTorch: one expert at a time.

    x (T, d), ids and gates (T, K) to (T, d); w1 (E, 2n, d), w2 (E, d, n).
    """

    def __init__(self, c: Config):
        super().__init__()
        self.w1 = nn.Parameter(torch.randn(c.experts, 2 * c.d_expert, c.d_model) / c.d_model**0.5)
        self.w2 = nn.Parameter(torch.randn(c.experts, c.d_model, c.d_expert) / c.d_expert**0.5)

    def forward(self, x: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for expert in range(self.w1.shape[0]):
            token, choice = torch.where(ids == expert)
            gate, up = F.linear(x[token], self.w1[expert]).chunk(2, dim=1)
            y = F.linear(F.silu(gate) * up, self.w2[expert])
            out = out.index_add(0, token, y * gates[token, choice, None])
        return out


class CompiledExperts(nn.Module):
    """The same experts, the same parameters, computed by the compiled layer."""

    def __init__(self, experts: LoopOverExperts, compiled: moe_mlir.Module):
        super().__init__()
        self.w1, self.w2, self.compiled = experts.w1, experts.w2, compiled

    def forward(self, x: Tensor, ids: Tensor, gates: Tensor) -> Tensor:
        return self.compiled(x, ids, gates, self.w1, self.w2)


class Block(nn.Module):
    """Attention, then experts chosen by a softmax router with normalised gates."""

    def __init__(self, c: Config):
        super().__init__()
        self.heads, self.top_k = c.heads, c.top_k
        self.norm1, self.norm2 = nn.LayerNorm(c.d_model), nn.LayerNorm(c.d_model)
        self.qkv = nn.Linear(c.d_model, 3 * c.d_model, bias=False)
        self.proj = nn.Linear(c.d_model, c.d_model, bias=False)
        self.router = nn.Linear(c.d_model, c.experts, bias=False)
        self.experts: nn.Module = LoopOverExperts(c)

    def forward(self, x: Tensor, replay: Optional[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        b, s, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, s, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(attended.transpose(1, 2).reshape(b, s, d))

        rows = self.norm2(x).view(b * s, d)
        scores = self.router(rows).softmax(dim=1)
        ids = scores.topk(self.top_k).indices if replay is None else replay
        gates = scores.gather(1, ids)
        gates = gates / gates.sum(dim=1, keepdim=True)
        # As in the Switch transformer: share of slots times mean score.
        share = F.one_hot(ids, scores.shape[1]).to(scores.dtype).mean(dim=(0, 1))
        balance = scores.shape[1] * (share * scores.mean(dim=0)).sum()
        return x + self.experts(rows, ids, gates).view(b, s, d), ids, balance


class LanguageModel(nn.Module):
    """Bytes (B, S) to logits (B, S, 256)."""

    def __init__(self, c: Config):
        super().__init__()
        self.bytes = nn.Embedding(VOCABULARY, c.d_model)
        self.places = nn.Embedding(c.context, c.d_model)
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.d_model)
        self.head = nn.Linear(c.d_model, VOCABULARY, bias=False)

    def forward(self, text: Tensor, replay: Optional[Sequence[Tensor]] = None) -> tuple[Tensor, list[Tensor], Tensor]:
        """Logits, each block's expert ids (B*S, K), and the balance loss.

        With `replay`, ids of an earlier call, experts are not chosen again: two
        ways to compute one model then never differ by a near tie.
        """
        x = self.bytes(text) + self.places.weight[: text.shape[1]]
        chosen, balance = [], x.new_zeros(())
        for number, block in enumerate(self.blocks):
            x, ids, term = block(x, replay[number] if replay else None)
            chosen.append(ids)
            balance = balance + term
        return self.head(self.norm(x)), chosen, balance


def with_compiled_experts(model: LanguageModel, compiled: moe_mlir.Module) -> LanguageModel:
    """The model again, its parameters shared, its experts computed by `compiled`."""
    shared = {id(p): p for p in model.parameters()}
    swapped = copy.deepcopy(model, shared)
    for block in swapped.blocks:
        block.experts = CompiledExperts(block.experts, compiled)
    return swapped


# ---- training and comparing --------------------------------------------------


def losses(model: LanguageModel, batch: Tensor, replay: Optional[Sequence[Tensor]] = None
           ) -> tuple[Tensor, list[Tensor], Tensor]:
    """Each byte's loss in nats (B, S), the expert ids, the balance loss."""
    logits, ids, balance = model(batch[:, :-1], replay)
    each = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="none")
    return each.view(len(batch), -1), ids, balance


def train(model: LanguageModel, text: Text, c: Config, report: Callable[[int, float], None]) -> float:
    """Trains in place; returns the seconds it took."""
    generator = torch.Generator().manual_seed(c.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=c.learning_rate, betas=(0.9, 0.95))
    start = time.perf_counter()
    for step in range(c.steps):
        each, _, balance = losses(model, windows(text.train, c.batch, c.context, generator))
        optimizer.zero_grad()
        (each.mean() + c.balance * balance).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        report(step + 1, each.mean().item())
        if time.perf_counter() - start > c.seconds:
            break
    return time.perf_counter() - start


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Held-out losses of two ways to compute one model, and their errors.

    Errors are root mean squares over all bytes, against the model in float64.
    The bound is the project's rule for every kernel: not above 1.1 times the
    error of plain PyTorch, plus one rounding.
    """

    torch_loss: float
    compiled_loss: float
    torch_error: float
    compiled_error: float
    bound: float

    @property
    def same(self) -> bool:
        """Whether the losses are the same to rounding. NaN is not."""
        return self.compiled_error <= self.bound


class Check:
    """Held-out windows (N, context + 1) with their losses in float32 and float64."""

    @torch.no_grad()
    def __init__(self, model: LanguageModel, held_out: Tensor):
        exact_model = copy.deepcopy(model).double()
        self.batches, self.ids = held_out.split(16), []
        by_torch, exact = [], []
        for batch in self.batches:
            each, ids, _ = losses(model, batch)
            by_torch.append(each)
            self.ids.append(ids)
            exact.append(losses(exact_model, batch, ids)[0])
        self.torch, self.exact = torch.cat(by_torch), torch.cat(exact)

    def error(self, values: Tensor) -> float:
        return (values.double() - self.exact).square().mean().sqrt().item()

    @torch.no_grad()
    def compare(self, swapped: LanguageModel) -> Comparison:
        """Evaluates another way to compute the model, with the same experts chosen."""
        values = torch.cat([losses(swapped, batch, ids)[0] for batch, ids in zip(self.batches, self.ids)])
        rounding = torch.finfo(torch.float32).eps * self.exact.square().mean().sqrt().item()
        return Comparison(self.torch.mean().item(), values.mean().item(), self.error(self.torch),
                          self.error(values), 1.1 * self.error(self.torch) + rounding)


def broken(experts: CompiledExperts, expert: int) -> CompiledExperts:
    """The same layer, but the output of one expert is zero."""
    wrong = copy.copy(experts)
    wrong._parameters = dict(experts._parameters)
    w2 = experts.w2.detach().clone()
    w2[expert] = 0
    wrong.w2 = nn.Parameter(w2)
    return wrong


def zero_each_expert(check: Check, swapped: LanguageModel) -> dict[tuple[int, int], Comparison]:
    """What the check finds when one expert of one block is zeroed: (block, expert)."""
    found = {}
    for number, block in enumerate(swapped.blocks):
        right = block.experts
        for expert in range(right.w1.shape[0]):
            block.experts = broken(right, expert)
            found[number, expert] = check.compare(swapped)
        block.experts = right
    return found


# ---- showing -----------------------------------------------------------------


def interleaved(functions: dict[str, Callable[[], object]], rounds: int = 11) -> dict[str, float]:
    """Median milliseconds of each, measured in turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for name, function in list(functions.items()) * 2:
        function()
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


@torch.no_grad()
def layer_times(model: LanguageModel, compiled: moe_mlir.Module, c: Config, tokens: int) -> dict[str, float]:
    """Milliseconds of one block's experts on so many rows, ids as a random router's."""
    experts = model.blocks[0].experts
    generator = torch.Generator().manual_seed(c.seed)
    x = torch.randn(tokens, c.d_model, generator=generator)
    gates, ids = torch.randn(tokens, c.experts, generator=generator).softmax(1).topk(c.top_k)
    return interleaved({"loop": lambda: experts(x, ids, gates),
                        "compiled": lambda: compiled(x, ids, gates, experts.w1, experts.w2)})


STAGES = {
    "input": ("what the layer means", {r"moe\.(?!yield|dims|name)": 9}),
    "fused": ("one op a kernel that will run", {r"moe\.(?!yield|dims|name)": 9}),
    "bufferized": ("every temporary is a view of one workspace", {r"memref\.view": 2, r"^ *moe\.(?!yield)": 9}),
    "loops": ("tasks for threads, tiles, vectors", {r"scf\.parallel": 2, r"memref\.alloca": 1, r"vector\.load": 1,
                                                    r"vector\.fma": 2}),
    "llvm": ("what LLVM makes machine code of", {r"llvm\.func internal": 1, r"intr\.fma": 2,
                                                 r"call @moe_rt_parallel_for": 1}),
}
"""Stages that are shown: what is to be seen there, and how many lines of which kinds."""


def show_stages(console: Console, layer: moe_mlir.layers.Layer) -> None:
    """A few lines of the layer's IR at each stage."""
    for stage, (what, wanted) in STAGES.items():
        lines = [line.strip() for line in layer.ir(stage).splitlines()]
        console.print(f"[bold]{stage}[/]: {what} [dim]({len(lines)} lines)[/]", highlight=False)
        for pattern, count in wanted.items():
            for line in [x for x in lines if re.search(pattern, x) and "func.func" not in x][:count]:
                console.print(f"    {line}", style="cyan", markup=False, highlight=False, no_wrap=True,
                              overflow="ellipsis")


def parse(arguments: Optional[Sequence[str]]) -> Config:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in dataclasses.fields(Config):
        kind = {"int": int, "float": float}[field.type]
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default,
                            help=f"default: {field.default}")
    return Config(**vars(parser.parse_args(arguments)))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    c = parse(arguments)
    console = Console()
    torch.manual_seed(c.seed)
    text = standard_library()
    unigram = unigram_loss(text)
    held_out = windows(text.held_out, c.held_out_windows, c.context, None)
    model = LanguageModel(c)
    size = sum(p.numel() for p in model.parameters())
    console.print(f"{text.files} files of Python's standard library: {len(text.train) / 1e6:.1f} MB to train on, "
                  f"{len(text.held_out) / 1e6:.1f} MB held out")
    console.print(f"{size / 1e6:.1f} M parameters: {c.layers} blocks, d = {c.d_model}, {c.experts} experts of "
                  f"n = {c.d_expert}, {c.top_k} a token; {torch.get_num_threads()} threads")

    with Progress(TextColumn("training in PyTorch"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                  TextColumn("loss {task.fields[loss]:.3f}"), console=console) as progress:
        task = progress.add_task("", total=c.steps, loss=float("nan"))
        seconds = train(model, text, c, lambda step, loss: progress.update(task, completed=step, loss=loss))

    start = time.perf_counter()
    compiled = c.layer.compile()
    compile_seconds = time.perf_counter() - start
    swapped = with_compiled_experts(model, compiled)
    with console.status("evaluating held-out text three ways"):
        result = Check(model, held_out).compare(swapped)
        zeroed = zero_each_expert(Check(model, held_out[:16]), swapped)
        missed = [where for where, found in zeroed.items() if found.same]
        smallest = min(found.compiled_error / found.bound for found in zeroed.values())
    with console.status("timing"):
        many, few = (layer_times(model, compiled, c, tokens) for tokens in (c.batch * c.context, 16))
        with torch.no_grad():
            whole = interleaved({"loop": lambda: model(held_out[:16, :-1]),
                                 "compiled": lambda: swapped(held_out[:16, :-1])}, rounds=7)

    console.print("\nThe stages that the experts went through; layer.ir(stage) gives all lines:")
    show_stages(console, c.layer)

    table = Table(title="\nMoE language model on held-out text", title_justify="left")
    for column, justify in (("", "left"), ("PyTorch loop", "right"), ("compiled", "right"), ("", "left")):
        table.add_column(column, justify=justify)
    table.add_row("loss, nats a byte", f"{result.torch_loss:.6f}", f"{result.compiled_loss:.6f}",
                  f"unigram model {unigram:.3f}")
    table.add_row("error against float64", f"{result.torch_error:.2e}", f"{result.compiled_error:.2e}",
                  f"allowed {result.bound:.2e}")
    table.add_row("  one expert zeroed", "", f"{smallest:.0f} x allowed",
                  f"noticed {len(zeroed) - len(missed)} of {len(zeroed)}")
    for name, times in ((f"experts, {c.batch * c.context} tokens", many), ("experts, 16 tokens", few),
                        (f"model, {16 * c.context} tokens", whole)):
        table.add_row(name, f"{times['loop']:.2f} ms", f"{times['compiled']:.2f} ms",
                      f"{times['loop'] / times['compiled']:.2f} x as fast")
    table.add_row("training, compiling", f"{seconds:.1f} s", f"{compile_seconds:.2f} s", "cached after that")
    console.print(table)

    failures = []
    if not result.torch_loss < unigram:
        failures.append(f"the model's held-out loss {result.torch_loss:.3f} is not below the unigram model's "
                        f"{unigram:.3f}; train it for longer, with --steps and --seconds")
    if not result.same:
        failures.append(f"the losses differ: the compiled experts' error {result.compiled_error:.3e} is above "
                        f"{result.bound:.3e}")
    if missed:
        failures.append(f"zeroing an expert went unnoticed: {missed} as (block, expert)")
    for failure in failures:
        console.print(f"[bold red]failed:[/] {failure}", soft_wrap=True)
    if not failures:
        console.print("[bold green]The compiled experts give the same losses, to rounding.[/]")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
