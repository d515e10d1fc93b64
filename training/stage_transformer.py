"""Stages `base`, `base_real`, `distil_*` and `refine_text`: the transformers.

One network learns all three modes at once, row by row: what it learns of solids and light where a map gives the outlines helps
where there are only words. Rows of the text mode have a control of zeros, so the input columns for the control can be cut off without loss.
A distilled transformer computes in one pass what classifier-free guidance needs two for. It learns from images, and a teacher's two passes tell what to add:
noise − image + (strength − 1) · (v_with − v_without), where `STRENGTH` turns the app's guidance value into that strength. So it can draw
better solids than its teacher. A refined one goes on from a distilled one without a base: it learns from images still, and its own
frozen weights tell what to add: v(guidance) − v(1), in one pass each.
"""

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from training import Refused, distributed, export, flow, labels, latents, loop, muon, networks, sheets, tokenizers
from training.batches import Batch, Batches, Share, endless
from training.pool import Pool
from training.scenes import SIZES, SQUARE
from training.stage_vae import DEVIATION

# mode: (highest guidance, strength added per unit of guidance above 1). FLUX's defaults 3.5, 30 and 10 all give about 3.
STRENGTH = {"text": (8.0, 0.8), "canny": (60.0, 0.07), "depth": (25.0, 0.22)}
ALL_MODES = ("text", "text", "canny", "depth")  # text twice: words alone are the hardest to follow
PROBE_WEIGHT = 0.1  # of the probe's loss, see labels.py
RATE_EXPONENT = 1 / 3  # larger batches allow larger learning rates: twice those of a stage for eight times its batch
SAMPLES, SAMPLE_STEPS = 16, 16
OUTER = ("x_embedder", "context_embedder", "proj_out", "norm_out", "time_text_embed")


HALF_SIZE = (Share(latents.HALF, 1.0, 48, 32),)
REAL_SIZES = tuple(Share(size, 6.0 if size == SQUARE else 1.0, 24, 64) for size in SIZES)
BOTH = (Share(latents.HALF, 10.0, 48, 64), *REAL_SIZES)
TWO_PASSES, ONE_PASS = "two passes", "one pass"  # with and without prompt and map, or at the guidance value and at 1


@dataclass(frozen=True)
class Stage:
    """`guidance` says how the stage's frozen starting weights tell what guidance adds: `TWO_PASSES`, `ONE_PASS`, or None to learn none."""

    modes: tuple[str, ...]
    start: tuple[str, ...]  # it starts from the averaged weights of the first of these stages that has a checkpoint
    shares: tuple[Share, ...]
    rates: tuple[float, float]  # peak learning rates for Muon and for Adam, with a batch factor of 1
    guidance: str | None = None
    nearer_to_noise: float = 0.0  # its training times, see flow.random_times: shapes are decided while much noise is left
    oversampled: tuple[tuple[str, float], ...] = ()  # see Pool


_DISTIL = {"start": ("base_real", "base"), "shares": BOTH, "rates": (0.004, 4e-4), "guidance": TWO_PASSES, "nearer_to_noise": 0.4}
_OVERSAMPLED = (("cube", 0.3), ("sphere", 0.1))  # drawn worst. With half of the rows cubes, spheres and pairs became worse.
STAGES = {
    "base": Stage(ALL_MODES, ("shipped",), HALF_SIZE, (0.02, 2e-3)),
    "base_real": Stage(ALL_MODES, ("base",), REAL_SIZES, (0.008, 8e-4)),
    "distil_text": Stage(("text",), oversampled=_OVERSAMPLED, **_DISTIL),
    "distil_canny": Stage(("canny",), **_DISTIL),
    "distil_depth": Stage(("depth",), **_DISTIL),
    # At half of the above rates, its error rose by a fifth within a hundred steps.
    "refine_text": Stage(("text",), ("distil_text",), REAL_SIZES, (0.0003, 3e-5), ONE_PASS, 0.4, _OVERSAMPLED),
}


def train(run: loop.Run, name: str, batch_factor: int) -> None:
    """Raises Refused if there is nothing to distil, or no latents to train on, or no text encoders."""
    trainer = Trainer(run, name, batch_factor)
    loop.train(run, name, trainer.state, trainer.one_step, trainer.save_samples)


class Trainer:
    """One stage: its network, its teacher if it distils, and what both are trained on."""

    def __init__(self, run: loop.Run, name: str, batch_factor: int):
        stage = STAGES[name]
        self.run, self.name, self.stage, self.modes = run, name, stage, stage.modes
        torch.manual_seed(3)
        model = networks.transformer(control=stage.modes != ("text",))
        start_from(model, run.work, name, stage.start, required=stage.guidance is not None)
        self.model = model.to(run.device)
        self.teacher = copy.deepcopy(model).eval() if stage.guidance else None
        self.probe = None if self.teacher else labels.LinearProbe().to(run.device)  # a teacher shows what stands where by itself
        torch.manual_seed(100 + distributed.rank())
        self.averaged = loop.Averaged(self.model, 0.998)
        larger = max(1, batch_factor) ** RATE_EXPONENT
        muon_rate, adam_rate = (larger * rate for rate in stage.rates)
        self.optimisers = muon.optimisers(self.model, muon_rate, adam_rate, OUTER)
        self.state = {"model": self.model, "averaged": self.averaged, **self.optimisers}
        if self.probe:
            self.probe.attach(self.model)
            self.optimisers["adam"].add_param_group({"params": list(self.probe.parameters()), "peak": adam_rate})
            self.state["reading"] = self.probe

        available = [share for share in stage.shares if latents.file(run.work, "picture", share.size).exists()]
        if not available:
            raise Refused(f"There are no latents in {run.work} yet. Run the stage `latents` first.")
        self.shares = [replace(share, batch=max(2, share.batch * batch_factor // distributed.world_size())) for share in available]
        self.pools = [Pool(run.work, share.size, stage.modes, run.device, stage.oversampled) for share in self.shares]
        self.encoders = text_encoders(run.work, run.device)
        self.empty = {length: self.encoders.encode([""], length) for length in {share.length for share in self.shares}}
        self.deviation = DEVIATION * export.latent_scale(run.work)["scaling_factor"]
        done = loop.reached(run.checkpoint(name))
        batches = Batches(self.pools, self.shares, self.encoders.tokenize, drops=not stage.guidance, name=name, done=done)
        self.batches = endless(batches, run.device)

    def one_step(self, step: int, progress: float) -> dict[str, Tensor]:
        batch, device = next(self.batches), self.run.device
        share, size = self.shares[batch.source], self.shares[batch.source].size
        rows = self.pools[batch.source].fetch(batch.rows)
        clean, control = rows.latents, rows.controls
        if control is not None:
            control = self.as_given(control, batch)
        noise, time = torch.randn_like(clean), flow.random_times(share.batch, size, device, self.stage.nearer_to_noise)
        noisy = (1 - time[:, None, None]) * clean + time[:, None, None] * noise
        prompts = self.encoders.embed(batch.tokens)
        if self.teacher is None:
            guidance, target = torch.ones(share.batch, device=device), noise - clean
        else:
            guidance, added = self.guided(batch, noisy, control, time, prompts)
            target = noise - clean + added
        output = flow.velocity(self.model, noisy, control, time, prompts, guidance, size)
        error = (output - target).square().mean()
        if self.probe is None:
            self._update(error, step)
            return {"loss": error.detach()}
        probe_loss = self.probe.loss(rows.labels)
        self._update(error + PROBE_WEIGHT * probe_loss, step)
        return {"loss": error.detach(), "probe": probe_loss.detach()}

    def save_samples(self, step: int) -> None:
        model = networks.transformer(control=self.modes != ("text",))
        model.load_state_dict(self.averaged.weights)
        vae = export.assemble(self.run.work, "vae")["vae"].to(self.run.device)
        path = self.run.sample_sheet(self.name, step)
        sample_sheet(model.to(self.run.device).eval(), vae, self.encoders, self.pools[0], self.teacher is not None, path, self.run.device)

    def as_given(self, controls: Tensor, batch: Batch) -> Tensor:
        """Controls (B, tokens, 64) as the stock pipelines give them: sampled from the VAE's distribution. The text mode's stay zero."""
        given = torch.tensor([float(row.control is not None) for row in batch.rows])
        sampled = controls + self.deviation * given.to(controls)[:, None, None] * torch.randn_like(controls)
        return sampled * batch.keeps_control.to(controls)[:, None, None]

    def guided(
        self, batch: Batch, noisy: Tensor, control: Tensor | None, time: Tensor, prompts: flow.PromptEmbeds
    ) -> tuple[Tensor, Tensor]:
        """Random guidance values (B,), and what each of them adds to the velocity, by the teacher."""
        share, device = self.shares[batch.source], self.run.device
        highest, slope = torch.tensor([STRENGTH[row.mode] for row in batch.rows], device=device).T
        guidance = 1 + (highest - 1) * torch.rand(share.batch, device=device) ** 1.5
        ones = torch.ones(share.batch, device=device)
        with torch.no_grad():
            least = flow.velocity(self.teacher, noisy, control, time, prompts, ones, share.size)
            if self.stage.guidance == ONE_PASS:
                return guidance, flow.velocity(self.teacher, noisy, control, time, prompts, guidance, share.size) - least
            none = self.empty[share.length].expanded(share.batch)
            without = flow.velocity(self.teacher, noisy, None if control is None else control * 0, time, none, ones, share.size)
        return guidance, (slope * (guidance - 1))[:, None, None] * (least - without)

    def _update(self, loss: Tensor, step: int) -> None:
        trained = [self.model, *([self.probe] if self.probe else [])]
        for network in trained:
            network.zero_grad(set_to_none=True)
        loss.backward()
        for network in trained:
            distributed.average_gradients(network)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers.values():
            optimiser.step()
        self.averaged.update(self.model, step)


def text_encoders(work: Path, device: str) -> flow.TextEncoders:
    loop.needed(work, "text")
    found = export.assemble(work, "text_encoder", "text_encoder_2")
    return flow.TextEncoders(found["text_encoder"], found["text_encoder_2"], tokenizers.clip_tokenizer(), tokenizers.t5_tokenizer(), device)


def start_from(model, work: Path, name: str, stages: Sequence[str], required: bool = True) -> None:
    """Load the averaged weights of the first of `stages` that has a checkpoint. Raises Refused if none has, and the stage `name` needs one."""
    if not any(load(model, work / f"{stage}.pt") for stage in stages) and required:
        raise Refused(f"{name} has nothing to start from. Train one of {', '.join(stages)} first.")


def load(model, checkpoint: Path) -> bool:
    """Load a checkpoint's averaged weights, if it exists. Input columns for a control start at zero, or are cut off."""
    if not checkpoint.exists():
        return False
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["averaged"]
    columns = model.x_embedder.weight.shape[1]
    given = weights["x_embedder.weight"]
    weights["x_embedder.weight"] = torch.nn.functional.pad(given[:, :columns], (0, max(0, columns - given.shape[1])))
    model.load_state_dict(weights)
    return True


@torch.no_grad()
def sample_sheet(model, vae, encoders: flow.TextEncoders, pool: Pool, distilled: bool, path: Path, device: str) -> None:
    """Write some images of one size, each below its map if it has one, and a text file with their prompts beside the sheet."""
    chosen = pool.choose(SAMPLES, random.Random(1))
    rows, said = pool.fetch(chosen), [row.prompt for row in chosen]
    control = rows.controls
    prompts, empty = encoders.encode(said), encoders.encode([""] * SAMPLES)
    guidance = torch.tensor([1 + 2 / STRENGTH[row.mode][1] for row in chosen], device=device)  # a strength of 3

    def velocity_at(noisy: Tensor, time: Tensor) -> Tensor:
        if distilled:
            return flow.velocity(model, noisy, control, time, prompts, guidance, pool.size)
        ones = torch.ones(SAMPLES, device=device)
        with_text = flow.velocity(model, noisy, control, time, prompts, ones, pool.size)
        without = flow.velocity(model, noisy, None if control is None else control * 0, time, empty, ones, pool.size)
        return without + 3 * (with_text - without)

    noise = torch.randn(rows.latents.shape, generator=torch.Generator().manual_seed(0)).to(device)
    generated = flow.generate(velocity_at, noise, SAMPLE_STEPS)
    shown = [sheets.as_bytes(decode(vae, packed, pool.size)) for packed in ([generated] if control is None else [control, generated])]
    sheets.save([list(images[start : start + 8]) for start in range(0, SAMPLES, 8) for images in shown], path)
    path.with_suffix(".txt").write_text("\n".join(said) + "\n", encoding="utf-8")


def decode(vae, packed: Tensor, size: tuple[int, int]) -> Tensor:
    """Packed, scaled latents -> (B, 3, H, W) in about -1 … 1."""
    return vae.decoder(latents.unpack(packed, size) / vae.config.scaling_factor + vae.config.shift_factor)
