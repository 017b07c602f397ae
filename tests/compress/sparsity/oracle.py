"""Second implementations, one column at a time in float64, and inputs to try them on."""

import torch


def inputs(tokens, columns, seed=0, *, correlated=True, dtype=torch.float64):
    """Return inputs [tokens, columns]; correlated ones have a spectrum that falls by a power law."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, columns, generator=draw, dtype=torch.float64)
    if correlated:
        turn = torch.linalg.qr(torch.randn(columns, columns, generator=draw, dtype=torch.float64))[0]
        x = (x / torch.arange(1, columns + 1).sqrt()) @ turn
        x[:, :: max(1, columns // 2)] *= 5
    return x.to(dtype)


def weights(rows, columns, seed=1, dtype=torch.float64):
    """Return weights [rows, columns]."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def damped(x, share=0.01):
    """Return the damped mean of x x^T."""
    hessian = x.T @ x / len(x)
    dead = hessian.diagonal() == 0
    hessian[dead, dead] = 1
    return hessian + share * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=x.dtype)


def sparsegpt(weight, hessian, choose, *, group, round_to=None):
    """Prune column by column, eliminating each from an explicit inverse (optimal brain surgeon).

    Args:
        weight: f64 [R, C].
        hessian: damped, f64 [C, C].
        choose: from scores [R, n] and the columns done before, what to keep.
        group: columns whose mask is chosen at once.
        round_to: of a column and its number.

    Returns:
        Weights, mask and the sum of squared errors by their inverse diagonals, halved.
    """
    weight, inverse = weight.clone(), torch.linalg.inv(hessian)
    mask = torch.ones_like(weight, dtype=torch.bool)
    loss = 0.0
    for column in range(weight.shape[1]):
        if column % group == 0:
            at = slice(column, column + group)
            # The diagonals of the inverses of the trailing matrices, each from its own inverse.
            diagonal = torch.stack(
                [torch.linalg.inv(hessian[j:, j:])[0, 0] for j in range(column, min(column + group, len(hessian)))]
            )
            mask[:, at] = choose(weight[:, at] ** 2 / diagonal, column)
        value = torch.where(mask[:, column], weight[:, column], 0.0)
        if round_to is not None:
            value = round_to(value)
        wrong = (weight[:, column] - value) / inverse[column, column]
        loss += float((wrong**2).sum() * inverse[column, column] / 2)
        weight -= wrong[:, None] * inverse[column]
        weight[:, column] = value
        inverse = inverse - torch.outer(inverse[:, column], inverse[column]) / inverse[column, column]
    return weight, mask, loss
