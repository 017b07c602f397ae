"""Futures of patients, drawn token by token from a network that was trained to generate.

The law of the next token is p(y | history, codes of this visit so far), as `permuted_ce` learns it. A time token
closes a visit and moves the clock to the next. The grammar is part of the law: what is impossible has probability 0,
and the rest is divided by its sum, before anything is drawn.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ehr.batches import Batch, generator
from ehr.decoding import Decoder, read
from ehr.grammar import CLOSES, ENDS, IMPOSSIBLE, LOWER_DAYS, OPENS, UPPER_DAYS, Grammar
from ehr.model import Anamnesis
from ehr.timelines import DAY

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
HORIZON, LIMIT, DEATH = range(3)
FUTURES = 1024
"""Futures drawn at once, at most (at least those of one patient)."""
CROWDED = 0.75


class Futures(NamedTuple):
    """What was drawn for B samples, N futures each: M steps in the order of futures, then of time.

    Attributes:
        future: number of the future, sample x N + draw, i64 [M].
        token: a code, or V + bin for a time token, which carries the age and visit that it leads to, i64 [M].
        age_days: f32 [M].
        time: microseconds since 1970, i64 [M].
        visit: number of the visit, which goes on from the record's, i64 [M].
        log_probability: of the token in the law that it was drawn from, f32 [M].
        followed: probability that the next token is one of each followed outcome, in the law before anything was
            suppressed, f32 [M, K].
        ended: why each future ended: HORIZON, LIMIT (of tokens) or DEATH, i64 [B x N].
        beyond: the same probability as `followed` at the step that led beyond the horizon, which is no row of the
            table; 0 where there was none, f32 [B x N, K].
    """

    future: Ints
    token: Ints
    age_days: Floats
    time: Ints
    visit: Ints
    log_probability: Floats
    followed: Floats
    ended: Ints
    beyond: Floats


class Prompt(NamedTuple):
    """One record up to its prediction time, as the generating mode reads it; arrays of N tokens."""

    token: Ints
    visit: Ints
    age_days: Floats
    subject: int
    prediction_time: int
    query_age_days: float


class State:
    """Where each of P x N futures stands, as the grammar sees it."""

    def __init__(self, rules: Grammar, prompts: Sequence[Prompt], samples: int) -> None:
        """Stand at the prediction time: the last visit is closed, and the first token moves the clock."""
        size = len(rules.kind)
        self.kind, self.partner = torch.from_numpy(rules.kind), torch.from_numpy(rules.partner)
        self.possible = self.kind != IMPOSSIBLE
        self.opens, self.closes = (torch.where(self.kind == role, self.partner, -1) for role in (OPENS, CLOSES))
        shape = (len(prompts), samples)
        query = torch.tensor([prompt.query_age_days for prompt in prompts], dtype=torch.float32)
        opening = torch.tensor([opening_of(prompt) for prompt in prompts], dtype=torch.float32)
        self.age = torch.minimum(opening, query)[:, None].expand(shape).clone()
        self.silent = (query[:, None] - self.age).clamp(min=0.0)
        self.visit = torch.tensor([int(prompt.visit.max(initial=0)) for prompt in prompts])[:, None].repeat(1, samples)
        self.emitted = torch.zeros(*shape, size, dtype=torch.bool)
        self.filled = torch.zeros(shape, dtype=torch.int64)
        balance = [open_encounters(rules, prompt.token) for prompt in prompts]
        self.open = torch.from_numpy(np.stack(balance))[:, None].repeat(1, samples, 1)
        self.started = torch.zeros(shape, dtype=torch.bool)
        self.lower, self.upper = (torch.tensor(edges, dtype=torch.float32) for edges in (LOWER_DAYS, UPPER_DAYS))

    def allowed(self) -> Tensor:
        """Return which tokens may come next, bool [P, N, V + G]."""
        empty = self.filled == 0
        code = self.possible & ~self.emitted & self.started[..., None]
        code &= empty[..., None] | (self.opens < 0)
        # A type that is not open may not be closed; -1 looks at the last type, and is let through.
        shut = torch.cat([self.open, torch.ones_like(self.open[..., :1])], dim=-1)[..., self.closes] <= 0
        code &= (self.closes < 0) | ~shut
        time = (self.started & ~empty)[..., None] | (~self.started[..., None] & (self.upper > self.silent[..., None]))
        # Silence beyond the last bin leaves the last one.
        time[..., -1] |= ~self.started
        return torch.cat([code, time], dim=-1)

    def move(self, token: Tensor, going: Tensor) -> Tensor:
        """Go on with a token each where `going`; return whether it is a code, bool [P, N]."""
        size = len(self.kind)
        is_time = (token >= size) & going
        step = (token - size).clamp(min=0)
        # A bin stands for its middle, on the logarithmic scale, of what is left of it.
        low = torch.maximum(self.lower[step], self.silent)
        days = torch.sqrt(low * torch.maximum(self.upper[step], low))
        self.age = torch.where(is_time, self.age + days, self.age)
        self.silent = torch.where(is_time, 0.0, self.silent)
        self.visit = self.visit + is_time
        self.started = self.started | is_time
        self.emitted &= ~is_time[..., None]
        is_code = (token < size) & going
        code = torch.where(is_code, token, 0)
        self.filled = torch.where(is_time, 0, self.filled + is_code)
        self.emitted |= functional.one_hot(code, size).bool() & is_code[..., None]
        for role, by in ((self.opens, 1), (self.closes, -1)):
            at = role[code]
            change = functional.one_hot(at.clamp(min=0), self.open.shape[-1]) * (is_code & (at >= 0))[..., None]
            self.open = self.open + by * change
        return is_code

    def select(self, rows: Tensor, futures: Tensor) -> None:
        """Go on with some records, i64 [P'], and some futures of each, i64 [P', N'], alone."""
        for name in ("age", "silent", "visit", "emitted", "filled", "open", "started"):
            setattr(self, name, getattr(self, name)[rows[:, None], futures])


def opening_of(prompt: Prompt) -> float:
    """Return the age at the opening of the last visit, the age asked at where there is none."""
    return float(prompt.age_days[-1]) if len(prompt.visit) and prompt.visit[-1] > 0 else prompt.query_age_days


def open_encounters(rules: Grammar, token: Ints) -> Ints:
    """Return how many encounters of each type are open after some tokens, at least one type, i64 [types]."""
    found = np.zeros(max(rules.types, 1), dtype=np.int64)
    for at in token[np.isin(rules.kind[token], (OPENS, CLOSES))].tolist():
        change = 1 if rules.kind[at] == OPENS else -1
        found[rules.partner[at]] = max(0, found[rules.partner[at]] + change)
    return found


def prompts_of(batch: Batch[Tensor]) -> list[Prompt]:
    """Return the B samples of packed rows, each age that of its visit's opening."""
    token, segment, visit, age, subject, time, query = (part.cpu().numpy() for part in batch)
    found: list[Prompt] = []
    for row in range(len(token)):
        for number in range(1, int(segment[row].max(initial=0)) + 1):
            at = np.flatnonzero(segment[row] == number)
            held = visit[row, at].astype(np.int64)
            first = np.maximum.accumulate(np.where(np.diff(held, prepend=-1) != 0, np.arange(len(at)), 0))
            ages = np.where(held > 0, age[row, at][first], age[row, at]).astype(np.float32)
            place = len(found)
            found.append(Prompt(token[row, at], held, ages, int(subject[place]), int(time[place]), float(query[place])))
    return found


def sample(
    network: Anamnesis,
    batch: Batch[Tensor],
    *,
    horizon_days: float,
    samples: int,
    seed: int,
    followed: Sequence[Sequence[int]] = (),
    suppressed: Sequence[int] = (),
    max_tokens: int = 512,
) -> Futures:
    """Draw futures of each sample of a batch, from its prediction time to a horizon.

    Noise hangs on (seed, draw, subject, prediction time) alone: a future is the same in any batch, as far as sums in
    another order leave the same digits.

    Args:
        network: trained to generate (`model.objective: permuted_ce` or `ordered_ce`); it is put into eval mode.
        batch: B samples in packed rows.
        horizon_days: age counted from the prediction time at which futures end.
        samples: N futures a sample.
        seed: of the draws.
        followed: K outcomes, each as token ids.
        suppressed: token ids that are never drawn; the rest is divided by its sum.
        max_tokens: steps of a future, at most.

    Raises:
        ValueError: the network was not trained to generate, or a setting is out of range.
    """
    if not network.config.time_bins:
        raise ValueError(
            "the network was not trained to generate; expected a run pretrained with model.objective permuted_ce"
        )
    for name, value in (("horizon_days", horizon_days), ("samples", samples), ("max_tokens", max_tokens)):
        if value <= 0:
            raise ValueError(f"{name} is {value}; expected above 0")
    network.eval()
    prompts = prompts_of(batch)
    steps: list[Futures] = []
    ended = np.full(len(prompts) * samples, LIMIT, dtype=np.int64)
    beyond = np.zeros((len(prompts) * samples, len(followed)), dtype=np.float32)
    order = np.argsort([len(prompt.token) for prompt in prompts], kind="stable")
    size = max(1, FUTURES // samples)
    with torch.inference_mode():
        table = network.table()
        for begin in range(0, len(order), size):
            at = order[begin : begin + size]
            drawing = Drawing(network, table, [prompts[i] for i in at], samples, seed, max_tokens, followed, suppressed)
            number = at[:, None] * samples + np.arange(samples)
            steps += drawing.steps(horizon_days, number.ravel(), ended, beyond)
    return in_order(steps, ended, beyond)


class Drawing:
    """Futures of P records that are drawn together."""

    def __init__(
        self,
        network: Anamnesis,
        table: Tensor,
        prompts: Sequence[Prompt],
        samples: int,
        seed: int,
        max_tokens: int,
        followed: Sequence[Sequence[int]],
        suppressed: Sequence[int] = (),
    ) -> None:
        """Read the prompts and draw the noise (arguments as in `sample`)."""
        self.rules = network.rules()
        self.prompts = prompts
        width = max(1, *(len(prompt.token) for prompt in prompts))
        token, order, age = (np.zeros((len(prompts), width), dtype) for dtype in (np.int64, np.int32, np.float32))
        for row, prompt in enumerate(prompts):
            count = len(prompt.token)
            token[row, :count], age[row, :count] = prompt.token, prompt.age_days
            order[row, :count] = np.where(prompt.visit > 0, np.arange(1, count + 1), 0)
        anchor = torch.tensor([[prompt.query_age_days] for prompt in prompts], dtype=torch.float32)
        device = table.device
        tokens, orders, ages = (torch.from_numpy(part).to(device) for part in (token, order, age))
        prefix = read(network, table, tokens, orders, ages, anchor.to(device))
        # Padding stands behind the record: the last dated age is that of the last column.
        self.decoder = Decoder(network, table, prefix, samples)
        self.state = State(self.rules, prompts, samples)
        noise = [
            generator(seed, draw, prompt.subject, prompt.prediction_time).random(max_tokens)
            for prompt in prompts
            for draw in range(samples)
        ]
        self.noise = torch.from_numpy(np.stack(noise)).view(len(prompts), samples, -1)
        self.future = torch.arange(len(prompts) * samples).view(len(prompts), samples)
        self.member = torch.zeros(network.config.vocabulary_size + network.config.time_bins, len(followed))
        for column, tokens in enumerate(followed):
            self.member[list(tokens), column] = 1.0
        self.barred = torch.zeros(len(self.member), dtype=torch.bool)
        self.barred[list(suppressed)] = True

    def steps(self, horizon_days: float, number: Ints, ended: Ints, beyond: Floats) -> Iterator[Futures]:
        """Yield what is drawn, a step of all futures at a time, and write why each ended.

        Args:
            horizon_days: where futures end.
            number: of each future in the whole result, i64 [P x N].
            ended: by future in the whole result; those that reach the limit of tokens keep what stands there.
            beyond: likewise, what is followed where a future leaves the horizon.
        """
        state, decoder = self.state, self.decoder
        query = np.array([prompt.query_age_days for prompt in self.prompts])
        moments = np.array([prompt.prediction_time for prompt in self.prompts], dtype=np.int64)
        end = torch.from_numpy(query)[:, None] + horizon_days
        going = torch.ones_like(self.future, dtype=torch.bool)
        samples = self.future.shape[1]
        for step in range(self.noise.shape[-1]):
            logit = decoder.ask(state.age.to(decoder.bias.device)).cpu()
            law = torch.log_softmax(torch.where(state.allowed(), logit, -torch.inf), dim=-1)
            token, chance = draw(without(law, self.barred), self.noise[..., step])
            is_code = state.move(token, going)
            left = going & (state.age > end[self.future[:, 0] // samples])
            going = going & ~left
            out = number[self.future[left].numpy()]
            ended[out] = HORIZON
            beyond[out] = (law[left].exp() @ self.member).numpy()
            there = going.nonzero(as_tuple=True)
            at = self.future[there].numpy()
            age = state.age[there].numpy()
            days = age.astype(np.float64) - query[at // samples]
            yield Futures(
                number[at],
                token[there].numpy(),
                age,
                moments[at // samples] + (days * DAY).astype(np.int64),
                state.visit[there].numpy(),
                chance[there].numpy(),
                (law[there].exp() @ self.member).numpy(),
                ended,
                beyond,
            )
            dead = going & is_code & (state.kind[torch.where(is_code, token, 0)] == ENDS)
            ended[number[self.future[dead].numpy()]] = DEATH
            going = going & ~dead
            if not going.any():
                return
            code = torch.where(is_code, token, 0)
            decoder.append(*(part.to(decoder.bias.device) for part in (code, state.age, is_code & going)))
            going = self.thin(going)

    def thin(self, going: Tensor) -> Tensor:
        """Leave out futures that have ended, where they are many; return which of the rest go on."""
        counts = going.sum(dim=1)
        rows, widest = (counts > 0).nonzero()[:, 0], int(counts.max())
        if len(rows) * widest > CROWDED * going.numel():
            return going
        futures = torch.argsort((~going[rows]).to(torch.int8), dim=1, stable=True)[:, :widest]
        self.decoder.select(rows.to(self.decoder.bias.device), futures.to(self.decoder.bias.device))
        self.state.select(rows, futures)
        self.noise, self.future = (held[rows[:, None], futures] for held in (self.noise, self.future))
        return going[rows[:, None], futures]


def without(law: Tensor, barred: Tensor) -> Tensor:
    """Return laws with some tokens left out, divided by what is left; one that holds nothing else stays as it is.

    Args:
        law: logarithms of probabilities, f32 [..., V].
        barred: tokens to leave out, bool [V].
    """
    if not barred.any():
        return law
    left = torch.where(barred, -torch.inf, law)
    total = torch.logsumexp(left, dim=-1, keepdim=True)
    return torch.where(torch.isfinite(total), left - total, law)


def draw(law: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Draw from laws by the inverse of their distribution functions.

    Args:
        law: logarithms of probabilities, f32 [..., V].
        noise: uniform, f64 [...].

    Returns:
        Ids i64 and the logarithms of their probabilities f32, both [...].
    """
    mass = law.double().exp().cumsum(dim=-1)
    found = torch.searchsorted(mass, noise[..., None] * mass[..., -1:], right=True).clamp(max=law.shape[-1] - 1)
    return found[..., 0], law.gather(-1, found)[..., 0]


def in_order(steps: Sequence[Futures], ended: Ints, beyond: Floats) -> Futures:
    """Put the steps of all futures in order: futures, then time."""
    if not steps:
        empty = np.zeros(0, dtype=np.int64)
        none = np.zeros(0, dtype=np.float32)
        followed = np.zeros((0, beyond.shape[1]), np.float32)
        return Futures(empty, empty, none, empty, empty, none, followed, ended, beyond)
    parts = [np.concatenate(part) for part in zip(*(step[:-2] for step in steps), strict=True)]
    place = np.argsort(parts[0], kind="stable")
    return Futures(*(part[place] for part in parts), ended=ended, beyond=beyond)
