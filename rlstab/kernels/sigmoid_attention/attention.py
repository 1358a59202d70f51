"""The public functions."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from rlstab.kernels.sigmoid_attention import dispatch, softmax
from rlstab.kernels.sigmoid_attention.checks import check_choice
from rlstab.kernels.sigmoid_attention.dispatch import BACKENDS, Backend
from rlstab.kernels.sigmoid_attention.problem import Bias, Layout, Precision, SigmoidMode, make_problem
from rlstab.kernels.sigmoid_attention.transforms import as_autocast_does, without_autocast


def sigmoid_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    bias: Bias | None = "count",
    causal: bool = False,
    window: int | None = None,
    row_start: Tensor | None = None,
    row_end: Tensor | None = None,
    kv_lens: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
    layout: Layout = "bthd",
    backend: Backend = "auto",
    sigmoid_mode: SigmoidMode = "auto",
    precision: Precision = "ieee",
    deterministic: bool = True,
) -> Tensor:
    """Weigh values by the sigmoid of scores: ``out_i = sum_j sigmoid(scale <q_i, k_j> + bias_i) v_j``.

    Weights are not normalised. A row that sees no key is exactly zero.

    Parameters
    ----------
    q, k, v
        ``(B, m, Hq, d)``, ``(B, n, Hkv, d)``, ``(B, n, Hkv, dv)``, or with the middle axes swapped for
        ``layout="bhtd"``; float16, bfloat16, float32 or float64, any strides. Query head ``h`` reads key head
        ``h // (Hq / Hkv)``. With ``m < n`` the queries are the newest of the keys. Head dimensions 1 to 256.
    scale
        Default ``1 / sqrt(d)``.
    bias
        ``"count"``, minus the logarithm of the number of keys that the row sees, which keeps the sum of its weights
        near one at the beginning of training however long the row; a number; one a query head ``(Hq,)``; or one a row
        ``(B, m)``. ``None``: zero, which only suits linear position biases. Tensors get gradients.
    causal
        Whether a row sees no later keys.
    window
        With ``causal``: how many keys a row sees at most, its own included.
    row_start, row_end
        ``(B, T)``, with ``causal``: boundaries of the episodes in a batch, from `segments_to_rows`. ``row_end`` follows
        from ``row_start`` and saves its computation. Their values and those of ``kv_lens`` are checked on a CPU; on a
        GPU, which would have to be waited for, only shapes and types are, and wrong values give wrong results.
    kv_lens
        ``(B,)``: keys from here on are padding, which has to be finite all the same.
    alibi_slopes
        ``(Hq,)``: every score gets ``-slope * |distance|``. The part that depends on the row does not cancel, as it
        would in softmax.
    layout
        Order of the axes.
    backend
        ``"auto"``; ``"eager"``, plain torch operations for any dtype and derivative; ``"blockwise"``, on a CPU in
        memory linear in the length; ``"triton"``, on a GPU; ``"specialised"``, on a Hopper GPU in half precision: long
        sequences (1024 steps and more) of head dimension 64 or 128, dense or causal, perhaps with a window, and with
        one number for a bias. ``"auto"`` never takes the last, which has not run on a GPU yet. Calls under forward-mode
        differentiation or `torch.func` transforms are computed by the reference whatever is asked for.
    sigmoid_mode
        How the Triton kernels evaluate the sigmoid: ``"exact"``, ``"newton"`` (one special-function operation, relative
        error 7e-6), ``"tanh"`` (the hardware's approximation: its relative error has no bound for very negative
        scores). ``"auto"``: newton for half precisions, exact otherwise.
    precision
        How the Triton kernels multiply float32: exactly, or in three or one passes of TF32.
    deterministic
        Whether gradients are the same to the last digit each time. If they need not be, one kernel computes those of q,
        k and v of long sequences on a Hopper GPU, in half precision with head dimension 64 or 128, in five products
        instead of seven; it has not run on a GPU yet. All others are deterministic anyway, and so is this where
        ``torch.use_deterministic_algorithms`` asks for it.

    Returns
    -------
    Tensor
        ``(B, m, Hq, dv)`` or ``(B, Hq, m, dv)``, in the dtype of ``q``. Under `torch.autocast`, q, k and v are cast as
        for torch's own attention, whatever the backend, and so is the output.

    Raises
    ------
    UserError
        An argument does not fit, in one line that names it.

    References
    ----------
    Ramapuram et al. 2025, "Theory, Analysis, and Best Practices for Sigmoid Self-Attention", arXiv:2409.04431.

    Examples
    --------
    >>> q, k, v = (torch.zeros(1, 4, 2, 8) for _ in range(3))
    >>> sigmoid_attention(q, k, v + 1, causal=True)[0, :, 0, 0]
    tensor([0.5000, 0.6667, 0.7500, 0.8000])
    """
    check_choice("backend", backend, BACKENDS)
    check_choice("sigmoid_mode", sigmoid_mode, ("auto", "exact", "newton", "tanh"))
    check_choice("precision", precision, ("ieee", "tf32x3", "tf32"))
    check_choice("deterministic", deterministic, (True, False))
    q, k, v = as_autocast_does(q, k, v)
    problem = make_problem(
        q,
        k,
        v,
        scale=scale,
        bias=bias,
        causal=causal,
        window=window,
        row_start=row_start,
        row_end=row_end,
        kv_lens=kv_lens,
        alibi_slopes=alibi_slopes,
        layout=layout,
    )
    repeatable = deterministic or torch.are_deterministic_algorithms_enabled()
    with without_autocast(problem.q.device):
        out = dispatch.run(
            replace(problem, sigmoid_mode=sigmoid_mode, precision=precision, deterministic=repeatable), backend
        )
    return out.transpose(1, 2) if layout == "bthd" else out


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
    row_start: Tensor | None = None,
    row_end: Tensor | None = None,
    kv_lens: Tensor | None = None,
    alibi_slopes: Tensor | None = None,
    layout: Layout = "bthd",
) -> Tensor:
    """Weigh values by the softmax of scores, with the masks of `sigmoid_attention`.

    Computed by `torch.nn.functional.scaled_dot_product_attention`; derivatives other than first ones in reverse mode by
    its plain operations. A row that sees no key is zero.

    Returns
    -------
    Tensor
        As `sigmoid_attention`.

    Raises
    ------
    UserError
        An argument does not fit.
    """
    q, k, v = as_autocast_does(q, k, v)
    problem = make_problem(
        q,
        k,
        v,
        scale=scale,
        bias=None,
        causal=causal,
        window=window,
        row_start=row_start,
        row_end=row_end,
        kv_lens=kv_lens,
        alibi_slopes=alibi_slopes,
        layout=layout,
    )
    with without_autocast(problem.q.device):
        out = softmax.attend(problem)
    return out.transpose(1, 2) if layout == "bthd" else out
