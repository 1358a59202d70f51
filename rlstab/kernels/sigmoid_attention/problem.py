"""One attention call, checked and in one form: what every backend is handed."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from rlstab.errors import UserError, suggest
from rlstab.kernels.sigmoid_attention.masks import Intervals, check_window, rows_that_see, visible_intervals
from rlstab.kernels.sigmoid_attention.transforms import readable

Layout: TypeAlias = Literal["bthd", "bhtd"]
Bias: TypeAlias = "float | Tensor | Literal['count']"
SigmoidMode: TypeAlias = Literal["auto", "exact", "newton", "tanh"]
Precision: TypeAlias = Literal["ieee", "tf32x3", "tf32"]

Gradients: TypeAlias = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""Of q, k, v, the bias and the slopes."""

MAX_HEAD_DIM = 256
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True)
class Problem:
    """Tensors as ``(B, H, T, d)`` views, and what acts on their scores.

    Parameters
    ----------
    q, k, v
        ``(B, Hq, m, d)``, ``(B, Hkv, n, d)``, ``(B, Hkv, n, dv)`` with ``Hq`` a multiple of ``Hkv``.
    scale
        Factor of the scores.
    bias
        Added to the scores: a number, ``(Hq,)``, ``(B, m)``, or ``"count"``: minus the logarithm of the number of keys
        that the row sees.
    alibi_slopes
        ``(Hq,)``: every score gets ``-slope * |distance|``.
    causal, window, row_start, row_end, kv_lens, sigmoid_mode, precision
        See `rlstab.kernels.sigmoid_attention.sigmoid_attention`.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    scale: float
    bias: Bias = 0.0
    alibi_slopes: Tensor | None = None
    causal: bool = False
    window: int | None = None
    row_start: Tensor | None = None
    row_end: Tensor | None = None
    kv_lens: Tensor | None = None
    sigmoid_mode: SigmoidMode = "auto"
    precision: Precision = "ieee"
    deterministic: bool = True
    """Whether gradients have to be the same to the last digit each time."""
    specialised: bool = False
    """Whether the forward pass is the warp-specialised kernel's, rather than chosen by its sizes."""

    @property
    def bias_tensor(self) -> Tensor | None:
        """The bias, if it is a tensor."""
        return self.bias if isinstance(self.bias, Tensor) else None

    def with_tensors(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, slopes: Tensor | None) -> Problem:
        """The same problem on other tensors; ``bias`` counts only where this one's is a tensor."""
        kept = self.bias if bias is None else bias
        return replace(self, q=q, k=k, v=v, bias=kept, alibi_slopes=slopes)

    def detached(self) -> Problem:
        """The same problem, without the graph that its tensors come from."""
        bias, slopes = self.bias_tensor, self.alibi_slopes
        return self.with_tensors(
            self.q.detach(),
            self.k.detach(),
            self.v.detach(),
            None if bias is None else bias.detach(),
            None if slopes is None else slopes.detach(),
        )

    @property
    def group(self) -> int:
        """Query heads that share a key head."""
        return self.q.shape[1] // self.k.shape[1]

    def intervals(self) -> Intervals:
        """Keys that each row sees."""
        return visible_intervals(
            self.q.shape[2],
            self.k.shape[2],
            causal=self.causal,
            window=self.window,
            row_start=self.row_start,
            kv_lens=self.kv_lens,
            device=self.q.device,
        )

    def row_bias(self, intervals: Intervals, dtype: torch.dtype) -> Tensor:
        """The bias as a tensor that broadcasts against ``(B, Hq, m, 1)``."""
        if isinstance(self.bias, Tensor):
            bias = self.bias.to(dtype)
            return bias[None, :, None, None] if bias.ndim == 1 else bias[:, None, :, None]
        if self.bias == "count":
            # A row that sees nothing has no score to add it to.
            return -intervals.count().clamp(min=1).to(dtype).log()[:, None, :, None]
        return torch.tensor(float(self.bias), dtype=dtype, device=self.q.device)

    def distances(self, begin: int, end: int) -> Tensor:
        """Distance in steps between each query and the keys ``begin`` to ``end - 1``: ``(m, end - begin)``, int64."""
        queries = torch.arange(self.q.shape[2], device=self.q.device) + (self.k.shape[2] - self.q.shape[2])
        return (queries[:, None] - torch.arange(begin, end, device=self.q.device)).abs()


def make_problem(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None,
    bias: Bias | None,
    causal: bool,
    window: int | None,
    row_start: Tensor | None,
    row_end: Tensor | None,
    kv_lens: Tensor | None,
    alibi_slopes: Tensor | None,
    layout: Layout,
) -> Problem:
    """Check the arguments of a call and bring them into one form.

    Shapes and types are checked always; what integer tensors hold only on a CPU, as a GPU would have to be waited for.

    Raises
    ------
    UserError
        An argument does not fit; the message names it.
    """
    if layout not in ("bthd", "bhtd"):
        raise UserError(f"layout is '{layout}', it must be 'bthd' or 'bhtd'{suggest(str(layout), ('bthd', 'bhtd'))}")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        _check_tensor(name, tensor, q)
    if layout == "bthd":
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    _check_shapes(q, k, v)
    batch, heads, num_queries, dim = q.shape
    num_keys = k.shape[2]
    check_window(window)
    if window is not None and not causal:
        raise UserError("window needs causal=True: it holds the newest keys, the query's own included")
    if causal and num_queries > num_keys:
        raise UserError(f"causal attention needs at least as many keys as queries, got {num_keys} and {num_queries}")
    if row_start is not None:
        if not causal or num_queries != num_keys:
            raise UserError("row_start needs causal=True and as many keys as queries")
        _check_index("row_start", row_start, (batch, num_queries), q)
        _check_starts(row_start)
    if row_end is not None:
        if row_start is None:
            raise UserError("row_end goes with row_start: use both as segments_to_rows gives them")
        _check_index("row_end", row_end, (batch, num_keys), q)
        _check_ends(row_end, row_start)
    if kv_lens is not None:
        _check_index("kv_lens", kv_lens, (batch,), q)
        _check_lengths(kv_lens, num_keys)
    if alibi_slopes is not None:
        _check_real("alibi_slopes", alibi_slopes, ((heads,),), q)
    if isinstance(bias, Tensor):
        # A vector of heads comes first where a batch has as many rows: row biases have two axes.
        _check_real("bias", bias, ((heads,), (batch, num_queries)), q)
    elif isinstance(bias, str) and bias != "count":
        raise UserError(f"bias is '{bias}', it must be a number, a tensor (Hq,) or (B, T), or 'count'")
    elif bias is not None and not isinstance(bias, str):
        _check_number("bias", bias, "a number, a tensor (Hq,) or (B, T), or 'count'")
    if scale is not None:
        _check_number("scale", scale, "a number")
    return Problem(
        q,
        k,
        v,
        scale=1.0 / math.sqrt(dim) if scale is None else float(scale),
        bias=0.0 if bias is None else bias,
        alibi_slopes=alibi_slopes,
        causal=bool(causal),
        window=window,
        row_start=row_start,
        row_end=row_end,
        kv_lens=kv_lens,
    )


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Refuse what is none of the choices."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        names = [str(choice) for choice in choices]
        raise UserError(f"{name} is {value!r}, it must be one of {', '.join(names)}{suggest(str(value), names)}")


def _check_number(name: str, value: object, what: str) -> None:
    # Compilers trace numbers as symbols.
    if isinstance(value, bool) or not isinstance(value, (numbers.Real, torch.SymInt, torch.SymFloat)):
        raise UserError(f"{name} must be {what}, got {type(value).__name__}")
    if not math.isfinite(value):
        raise UserError(f"{name} must be finite, got {value}")


def check_is_tensor(name: str, tensor: object) -> None:
    """Refuse what is no tensor, or a sparse one."""
    if not isinstance(tensor, Tensor):
        raise UserError(f"{name} must be a torch tensor, got {type(tensor).__name__}")
    if tensor.layout != torch.strided:
        raise UserError(f"{name} must be a dense tensor, got one of layout {tensor.layout}: use its to_dense()")


def check_real_type(name: str, tensor: Tensor) -> None:
    """Refuse types that nothing here computes in."""
    if tensor.dtype not in _DTYPES:
        raise UserError(f"{name} must be float16, bfloat16, float32 or float64, got {tensor.dtype}")


def _check_tensor(name: str, tensor: Tensor, q: Tensor) -> None:
    check_is_tensor(name, tensor)
    if tensor.ndim != 4:
        raise UserError(f"{name} must have four axes (see layout), got shape {tuple(tensor.shape)}")
    check_real_type(name, tensor)
    if tensor.dtype != q.dtype:
        raise UserError(f"{name} is {tensor.dtype} and q is {q.dtype}: give all three one dtype")
    if tensor.device != q.device:
        raise UserError(f"{name} is on {tensor.device} and q on {q.device}: move all three to one device")


def _check_shapes(q: Tensor, k: Tensor, v: Tensor) -> None:
    (batch, heads, _, dim), (kv_heads, num_keys) = q.shape, k.shape[1:3]
    if k.shape[0] != batch or v.shape[0] != batch:
        raise UserError(f"q, k and v must have one batch size, got {batch}, {k.shape[0]} and {v.shape[0]}")
    if k.shape[3] != dim:
        raise UserError(f"q and k must have one head dimension, got {dim} and {k.shape[3]}")
    if v.shape[1] != kv_heads or v.shape[2] != num_keys:
        raise UserError(
            f"k and v must have the same heads and length, got {kv_heads} x {num_keys} and {v.shape[1]} x {v.shape[2]}"
        )
    for name, size in (("q and k", dim), ("v", v.shape[3])):
        if not 1 <= size <= MAX_HEAD_DIM:
            raise UserError(f"the head dimension of {name} is {size}, it must lie between 1 and {MAX_HEAD_DIM}")
    if kv_heads == 0 or heads % kv_heads or heads == 0:
        raise UserError(f"the heads of q must be a multiple of those of k, got {heads} and {kv_heads}")


def _check_index(name: str, tensor: Tensor, shape: tuple[int, ...], q: Tensor) -> None:
    check_is_tensor(name, tensor)
    if tuple(tensor.shape) != shape:
        raise UserError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if tensor.dtype not in (torch.int32, torch.int64):
        raise UserError(f"{name} must be int32 or int64, got {tensor.dtype}")
    if tensor.device != q.device:
        raise UserError(f"{name} is on {tensor.device} and q on {q.device}")


def _check_real(name: str, tensor: Tensor, shapes: tuple[tuple[int, ...], ...], q: Tensor) -> None:
    check_is_tensor(name, tensor)
    if tuple(tensor.shape) not in shapes:
        raise UserError(f"{name} must have shape {' or '.join(map(str, shapes))}, got {tuple(tensor.shape)}")
    if not tensor.is_floating_point():
        raise UserError(f"{name} must be of a floating-point type, got {tensor.dtype}")
    if tensor.device != q.device:
        raise UserError(f"{name} is on {tensor.device} and q on {q.device}")


def _check_starts(row_start: Tensor) -> None:
    if not readable(row_start) or not row_start.numel():
        return
    rows = torch.arange(row_start.shape[1], dtype=row_start.dtype)
    if bool(((row_start < 0) | (row_start > rows)).any()):
        raise UserError("row_start must be from 0 to the number of its row: use what segments_to_rows gives")
    if bool((row_start[:, 1:] < row_start[:, :-1]).any()):
        raise UserError("row_start must not fall from one row to the next: use what segments_to_rows gives")


def _check_ends(row_end: Tensor, row_start: Tensor) -> None:
    if readable(row_end) and readable(row_start) and not bool((row_end == rows_that_see(row_start)).all()):
        raise UserError("row_end must be the last row that sees each key: use row_start and row_end of one call")


def _check_lengths(kv_lens: Tensor, num_keys: int) -> None:
    if not readable(kv_lens):
        return
    wrong = kv_lens[(kv_lens < 0) | (kv_lens > num_keys)]
    if wrong.numel():
        raise UserError(f"kv_lens must be from 0 to {num_keys}, the number of keys, got {int(wrong[0])}")
