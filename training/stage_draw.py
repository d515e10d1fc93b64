"""Stages `base`, `base_real` and `distil_*`: the transformers.

One network learns all three modes at once, row by row: what it learns of solids and light where a map tells the outlines serves
where only words do. Text mode's rows have a control of zeros, so the input columns for it are cut off without loss.
A distilled transformer says in one pass what its teacher says in two: v_without + strength · (v_with − v_without), where
`STRENGTH` turns the guidance value of the app into that strength.
"""

import copy
import random
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from training import distributed, export, flow, labels, latents, loop, muon, networks, sheets, tokenizers
from training.pool import Pool, Rows
from training.scenes import SIZES
from training.stage_vae import DEVIATION

DROPPED = 0.1  # of the captions are the empty one; with a control, half of those lose the control too
# mode: (highest guidance, strength added per unit of guidance above 1). 3.5, 30 and 10, FLUX's defaults, all give about 3.
STRENGTH = {"text": (8.0, 0.8), "canny": (60.0, 0.07), "depth": (25.0, 0.22)}
ALL = ("text", "text", "canny", "depth")  # words alone are the hardest to follow
READING = 0.1  # of the loss is how well the middle knows what stands where
OUTER = ("x_embedder", "context_embedder", "proj_out", "norm_out", "time_text_embed")


@dataclass(frozen=True)
class Share:
    """One size of picture in a stage's diet."""

    size: tuple[int, int]
    weight: float
    batch: int
    length: int = 64  # text tokens


HALF_ONLY = (Share(latents.HALF, 1.0, 48, 32),)
REAL = tuple(Share(size, 4.0 if size == (256, 256) else 1.0, 24, 32) for size in SIZES)
BOTH = (Share(latents.HALF, 10.0, 48), *(replace(share, length=64) for share in REAL))
DIETS = {"half": HALF_ONLY, "real": REAL, "both": BOTH}


def reader(work: Path, device: str) -> flow.Reader:
    found = export.assemble(work)
    return flow.Reader(found["text_encoder"], found["text_encoder_2"], tokenizers.clip_tokenizer(), tokenizers.t5_tokenizer(), device)


def train(
    work: Path,
    name: str,
    modes: tuple[str, ...],
    start: tuple[str, ...],
    diet: str,
    steps: int,
    rates: tuple[float, float],
    device: str,
    distil: bool = False,
    wider: int = 1,
) -> None:
    """Train stage `name` for `modes` from the averaged weights of the first stage in `start` that is there."""
    torch.manual_seed(3)
    model = networks.transformer(control=modes != ("text",))
    if not any(begin(model, work, stage) for stage in start) and distil:
        raise FileNotFoundError(f"Nothing to distil: none of {', '.join(start)} is trained. Run it first.")
    model = model.to(device)
    teacher = copy.deepcopy(model).eval() if distil else None
    reading = labels.Reading().to(device)
    reading.listen(model)
    torch.manual_seed(100 + distributed.rank())
    averaged = loop.Averaged(model, 0.99 if distil else 0.998)
    optimisers = muon.optimisers(model, *rates, OUTER)
    optimisers["adam"].add_param_group({"params": list(reading.parameters()), "peak": rates[1]})
    there = [share for share in DIETS[diet] if latents.place(work, "picture", share.size).exists()]
    shares = [replace(share, batch=max(2, share.batch * wider // distributed.size())) for share in there]
    pools = [Pool(work, share.size, modes) for share in shares]
    read = reader(work, device)
    deviation = DEVIATION * export.latent_scale(work)["scaling_factor"]
    draw = random.Random(f"{name} {loop.reached(work / f'{name}.pt')} {distributed.rank()}")
    same = random.Random(name)  # for what every process must choose alike
    empty = {length: read.read([""], length) for length in {share.length for share in shares}}

    def one_step(step: int):
        pool, share = same.choices(list(zip(pools, shares)), [share.weight for share in shares])[0]
        rows = pool.take(share.batch, draw)
        n, clean = share.batch, rows.pictures.to(device)
        control = None if rows.controls is None else drawn_controls(rows, deviation).to(device)
        noise, time = torch.randn_like(clean), flow.times(n, share.size, device)
        at = time[:, None, None]
        noisy = (1 - at) * clean + at * noise
        guidance = torch.ones(n, device=device)
        if teacher is None:
            dropped = [draw.random() < DROPPED for _ in rows.prompts]
            text = read.read(["" if drop else prompt for drop, prompt in zip(dropped, rows.prompts)], share.length)
            if control is not None:
                keep = [0.0 if drop and draw.random() < 0.5 else 1.0 for drop in dropped]
                control = control * torch.tensor(keep, device=device)[:, None, None]
            target = noise - clean
        else:
            text, none = read.read(rows.prompts, share.length), empty[share.length].repeated(n)
            with torch.no_grad():
                with_text = flow.velocity(teacher, noisy, control, time, text, guidance, share.size)
                without = flow.velocity(teacher, noisy, None if control is None else control * 0, time, none, guidance, share.size)
            highest, slope = torch.tensor([STRENGTH[mode] for mode in rows.modes], device=device).T
            guidance = 1 + (highest - 1) * torch.rand(n, device=device) ** 1.5
            target = without + (1 + slope * (guidance - 1))[:, None, None] * (with_text - without)
        said = flow.velocity(model, noisy, control, time, text, guidance, share.size)
        error = (said - target).square().mean()
        known = reading.loss(rows.labels.to(device))
        for network in (model, reading):
            network.zero_grad(set_to_none=True)
        (error if teacher else error + READING * known).backward()
        for network in (model, reading):
            distributed.share_gradients(network)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers.values():
            optimiser.step()
        averaged.update(model, step)
        return {"loss": error.detach(), "reading": known.detach()}

    def look(step: int) -> None:
        shown = networks.transformer(control=modes != ("text",))
        shown.load_state_dict(averaged.weights)
        vae = export.assemble(work)["vae"]
        sheet(shown.to(device).eval(), vae.to(device), read, pools[0], distil, work / "looks" / f"{name}-{step:06}.png", device)

    parts = {"model": model, "averaged": averaged, "reading": reading, **optimisers}
    loop.train(work / f"{name}.pt", parts, steps, one_step, look, 500)


def drawn_controls(rows: Rows, deviation: float) -> Tensor:
    """The controls as the stock pipelines give them to the transformer: drawn from the VAE's distribution. Text mode's stay zero."""
    given = torch.tensor([float(mode != "text") for mode in rows.modes])[:, None, None]
    return rows.controls + deviation * given * torch.randn_like(rows.controls)


def begin(model, work: Path, stage: str) -> bool:
    """Put in the averaged weights of `stage` if it is trained. Input columns for a control start at zero, or are cut off."""
    path = work / f"{stage}.pt"
    if not path.exists():
        return False
    weights = torch.load(path, map_location="cpu", weights_only=True)["averaged"]
    columns = model.x_embedder.weight.shape[1]
    given = weights["x_embedder.weight"]
    weights["x_embedder.weight"] = torch.nn.functional.pad(given[:, :columns], (0, max(0, columns - given.shape[1])))
    model.load_state_dict(weights)
    return True


@torch.no_grad()
def sheet(model, vae, read: flow.Reader, pool: Pool, distilled: bool, path: Path, device: str) -> None:
    """Sixteen pictures of one size; with a control, each below its map."""
    rows = pool.take(16, random.Random(1))
    control = None if rows.controls is None else rows.controls.to(device)
    text, none = read.read(rows.prompts), read.read([""] * 16)
    usual = torch.tensor([1 + 2 / STRENGTH[mode][1] for mode in rows.modes], device=device)  # a strength of 3

    def say(noisy: Tensor, time: Tensor) -> Tensor:
        guidance = usual if distilled else torch.ones(16, device=device)
        with_text = flow.velocity(model, noisy, control, time, text, guidance, pool.size)
        if distilled:
            return with_text
        without = flow.velocity(model, noisy, None if control is None else control * 0, time, none, guidance, pool.size)
        return without + 3 * (with_text - without)

    noise = torch.randn(rows.pictures.shape, generator=torch.Generator().manual_seed(0)).to(device)
    drawn = [flow.draw(say, noise, 16)] if control is None else [control, flow.draw(say, noise, 16)]
    pictures = [sheets.as_bytes(decode(vae, packed, pool.size)) for packed in drawn]
    sheets.save([list(part[at : at + 8]) for at in (0, 8) for part in pictures], path)
    path.with_suffix(".txt").write_text("\n".join(rows.prompts) + "\n", encoding="utf-8")


def decode(vae, packed: Tensor, size: tuple[int, int]) -> Tensor:
    """Packed, scaled latents -> (B, 3, H, W) in about -1 … 1."""
    return vae.decoder(latents.unpack(packed, size) / vae.config.scaling_factor + vae.config.shift_factor)
